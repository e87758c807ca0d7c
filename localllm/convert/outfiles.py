"""Files that get their names when all of them are whole, and are gone, or kept for another try, when one cannot be.

Until then a file is beside its name, hidden, and locked against other processes. Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from localllm.errors import BadOutput

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class OutFile:
    """A file that is being written: what it will be called, where it is until then, and its descriptor."""

    target: Path
    part: Path
    descriptor: int
    keep: bool

    def write_at(self, data: memoryview, offset: int) -> None:
        """Write all of `data`; several threads may do so at once.

        Raises:
            BadOutput: the disk is full or fails.
        """
        done = 0
        while done < len(data):
            try:
                done += os.pwrite(self.descriptor, data[done:], offset + done)
            except OSError as error:
                raise _failed(self.target, error, self.keep) from error

    def read_at(self, data: memoryview, offset: int) -> None:
        """Fill `data` with what is there already."""
        os.preadv(self.descriptor, [data], offset)


def part_of(target: Path) -> Path:
    """Where a file is until it is whole."""
    return target.with_name(f".{target.name}.part")


def journal_of(target: Path) -> Path:
    """Where it is noted what of it is done."""
    return target.with_name(f".{target.name}.journal")


def check_target(target: Path, size: int, force: bool) -> None:
    """Say now what would make writing `size` bytes to `target` fail.

    Raises:
        BadOutput: it exists, is a folder or a device, is in a folder that does not exist, or the disk has not enough
            room.
    """
    if target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "not a file that can be replaced"
        raise BadOutput(f"{target} is {what}.", hint="Give the name of the file to write: --outfile model.gguf")
    if target.exists() and not force:
        raise BadOutput(f"{target} exists already.", hint="--force replaces it; --outfile writes elsewhere.")
    if not target.parent.is_dir():
        raise BadOutput(f"There is no folder {target.parent}.", hint="Make it first.")
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise BadOutput(
            f"{target} needs {size:,} bytes, {target.parent} has {free:,} left: {size - free:,} too few.",
            hint="Make room, choose a smaller --type, or write elsewhere with --outfile.",
        )


@contextmanager
def new_files(
    sizes: Sequence[tuple[Path, int]], force: bool, *, keep: bool = False, reuse: bool = False, take_back: bool = False
) -> Iterator[list[OutFile]]:
    """Files beside their targets, with their sizes, that get their names when the block succeeds.

    `keep` leaves them when it fails. `reuse` finds the bytes in them that an interrupted call left, and with
    `take_back` those in files that had got their names already. The journal beside the first target goes with them.

    Raises:
        BadOutput: see `check_target`; another process is writing them; or the disk is full or fails. Without `keep`
            nothing is left behind.
    """
    needed = sum(size for _, size in sizes) - sum(_taken(part_of(target)) for target, _ in sizes)
    for target, _ in sizes:
        check_target(target, needed, force or take_back)
    files: list[OutFile] = []
    named: list[OutFile] = []
    kept = keep
    target = sizes[0][0]
    try:
        for target, size in sizes:
            _open(files, target, keep, take_back)
            if not reuse:
                os.ftruncate(files[-1].descriptor, 0)
            os.ftruncate(files[-1].descriptor, size)
        yield files
        for file in files:
            target = file.target
            os.fsync(file.descriptor)
            check_target(target, 0, force)
        for file in files:
            target = file.target
            file.part.replace(target)
            named.append(file)
        _sync_folder(target.parent)
        kept = False
    except BaseException as error:
        # A file of several is of no use without the others.
        for file in named:
            file.target.replace(file.part)
        if isinstance(error, OSError):
            raise _failed(target, error, keep) from error
        if not keep and not isinstance(error, Exception):
            _remove_unlocked(part_of(target))  # a signal came between making it and noting that
        raise
    finally:
        if files and not kept:
            for file in files:
                file.part.unlink(missing_ok=True)
            journal_of(sizes[0][0]).unlink(missing_ok=True)
        for file in files:
            os.close(file.descriptor)


def _taken(part: Path) -> int:
    """Bytes on the disk that a file has already."""
    return part.stat().st_blocks * 512 if part.exists() else 0


def _open(files: list[OutFile], target: Path, keep: bool, take_back: bool) -> None:
    """Open and lock the file of `target`, and add it to `files`."""
    part = part_of(target)
    place = target if take_back and target.exists() and not part.exists() else part
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, target)
            # While this waited for its turn, the file may have got its name or been removed.
            if place.exists() and os.path.samestat(os.fstat(descriptor), place.stat()):
                if place != part:
                    place.replace(part)
                files.append(OutFile(target, part, descriptor, keep))
                return
        except BaseException:
            if descriptor not in (file.descriptor for file in files):
                os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, target: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BadOutput(
            f"Another process is writing {target}.", hint="Wait for it, or write elsewhere with --outfile."
        ) from error
    except OSError:
        pass  # a file system without locks


def _remove_unlocked(part: Path) -> None:
    """Remove a file that no process is writing."""
    with suppress(OSError), part.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _failed(target: Path, error: OSError, keep: bool) -> BadOutput:
    left = "What is done is kept for --resume." if keep else "Nothing is left behind."
    reason = os.strerror(error.errno).lower() if error.errno in _FULL else error.strerror or error
    hint = "Make room, choose a smaller --type, or write elsewhere with --outfile." if error.errno in _FULL else ""
    return BadOutput(f"{target} cannot be written: {reason}. {left}", hint=hint)
