"""A file that is being downloaded: beside its name, with a note of which blocks of it have arrived.

The note outlives a process that is killed, so that the next one fetches the rest only. Knows nothing of the network.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localllm.errors import BadOutput

BLOCK = 1 << 20
"""Bytes that arrive as a whole or are fetched again."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Partial:
    """The unfinished file of `target`, `size` bytes in the end. `version` is another text when it is another file.

    What an earlier process got of the same version is found again. Several threads may write and note.

    Raises:
        BadOutput: it cannot be written.
    """

    def __init__(self, target: Path, size: int, version: str) -> None:
        with writing(target):
            self._open(target, size, version)

    def _open(self, target: Path, size: int, version: str) -> None:
        self.target, self.size = target, size
        self.path, self._note = part_of(target), _note_of(target)
        head = f"{size} {version}\n".encode()
        blocks = -(-size // BLOCK)
        target.parent.mkdir(parents=True, exist_ok=True)
        found = self._noted(head, blocks)
        if found is None:
            self.remove()
            fresh = self._note.with_name(f"{self._note.name}.{os.getpid()}")
            fresh.write_bytes(head + bytes(blocks))
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        os.ftruncate(self._file, size)
        if found is None:
            # The note says nothing of a file that is not there yet.
            fresh.replace(self._note)
        self._head = len(head)
        self._blocks = bytearray(found or bytes(blocks))
        self._notes = os.open(self._note, os.O_RDWR)

    @property
    def arrived(self) -> int:
        """Bytes of the blocks that are here."""
        last = self.size % BLOCK
        missing = BLOCK - last if last and self._blocks[-1] else 0
        return sum(self._blocks) * BLOCK - missing

    @property
    def blocks(self) -> int:
        """How many blocks there are in all."""
        return len(self._blocks)

    def has(self, block: int) -> bool:
        """Whether a block is here."""
        return bool(self._blocks[block])

    def write(self, offset: int, data: memoryview) -> None:
        """Write `data` at `offset`.

        Raises:
            BadOutput: the disk is full or fails; what arrived is kept.
        """
        with writing(self.target):
            while data:
                done = os.pwrite(self._file, data, offset)
                data, offset = data[done:], offset + done

    def note(self, block: int) -> None:
        """A block has arrived as a whole.

        Raises:
            BadOutput: the disk is full or fails.
        """
        self._blocks[block] = 1
        with writing(self.target):
            os.pwrite(self._notes, b"\x01", self._head + block)

    def read(self, offset: int, target: memoryview) -> int:
        """Fill `target` with what was written at `offset`; returns the bytes read, fewer only at the end.

        Raises:
            BadOutput: the disk fails.
        """
        with writing(self.target):
            return os.preadv(self._file, [target], offset)

    def flush(self) -> None:
        """Make what was written survive a power cut.

        Raises:
            BadOutput: the disk fails.
        """
        with writing(self.target):
            os.fdatasync(self._file)

    def finish(self) -> None:
        """Give it its name: all has arrived and is what it should be.

        Raises:
            BadOutput: the disk fails.
        """
        self.flush()
        with writing(self.target):
            self.path.replace(self.target)
            self._note.unlink(missing_ok=True)

    def remove(self) -> None:
        """Forget what arrived."""
        discard(self.target)

    def close(self) -> None:
        """Let go of the files; what arrived stays where it is."""
        os.close(self._file)
        os.close(self._notes)

    def _noted(self, head: bytes, blocks: int) -> bytes | None:
        """Which blocks an earlier process noted, if the file is the same one."""
        try:
            noted, has = self._note.read_bytes(), self.path.stat().st_size
        except FileNotFoundError:
            return None
        fits = has == self.size and len(noted) == len(head) + blocks and noted.startswith(head)
        return noted[len(head) :] if fits else None


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Whatever the disk refuses within is told as a failure to write `target`.

    Raises:
        BadOutput: it refuses something.
    """
    try:
        yield
    except OSError as error:
        raise _failed(target, error) from error


def part_of(target: Path) -> Path:
    """Where a file is until it is whole."""
    return target.with_name(f".{target.name}.download")


def bytes_of(target: Path) -> int:
    """Bytes that the unfinished file of `target` takes on the disk already.

    Raises:
        BadOutput: its folder cannot be looked into.
    """
    with writing(target):
        part = part_of(target)
        return part.stat().st_blocks * 512 if part.is_file() else 0


def discard(target: Path) -> None:
    """Remove what arrived of a file that is not wanted any more.

    Raises:
        BadOutput: it cannot be removed.
    """
    with writing(target):
        _note_of(target).unlink(missing_ok=True)
        part_of(target).unlink(missing_ok=True)


def _note_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.arrived")


def _failed(target: Path, error: OSError) -> BadOutput:
    reason = os.strerror(error.errno).lower() if error.errno in _FULL else error.strerror or error
    hint = "Make room: the same command goes on with what has arrived." if error.errno in _FULL else ""
    return BadOutput(f"{target} cannot be written: {reason}.", hint=hint)
