"""Files that get their names when all of them are whole, and are gone when one cannot be.

Knows nothing of what is written to them.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from localllm.errors import BadOutput


@dataclass(frozen=True)
class OutFile:
    """A file that is being written: what it will be called, where it is until then, and its descriptor."""

    target: Path
    part: Path
    descriptor: int

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
                raise _failed(self.target, error) from error


def check_target(target: Path, size: int, force: bool) -> None:
    """Say now what would make writing `size` bytes to `target` fail.

    Raises:
        BadOutput: it exists, is a folder, is in a folder that does not exist, or the disk has not enough room.
    """
    if target.is_dir():
        raise BadOutput(f"{target} is a folder.", hint="Give the name of the file to write: --outfile model.gguf")
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
def new_files(sizes: Sequence[tuple[Path, int]], force: bool) -> Iterator[list[OutFile]]:
    """Files beside their targets, with their sizes, that get their names when the block succeeds.

    Raises:
        BadOutput: see `check_target`; or the disk is full or fails. Nothing is left behind.
    """
    for target, _ in sizes:
        check_target(target, sum(size for _, size in sizes), force)
    files: list[OutFile] = []
    named: list[Path] = []
    target = sizes[0][0]
    try:
        try:
            for target, size in sizes:
                files.append(_opened(target))
                os.ftruncate(files[-1].descriptor, size)
            yield files
            for file in files:
                target = file.target
                os.fsync(file.descriptor)
        finally:
            for file in files:
                os.close(file.descriptor)
        for file in files:
            check_target(file.target, 0, force)
        for file in files:
            target = file.target
            file.part.replace(target)
            named.append(target)
        _sync_folder(target.parent)
    except BaseException as error:
        # A file of several is of no use without the others.
        for path in named:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _failed(target, error) from error
        raise
    finally:
        for file in files:
            file.part.unlink(missing_ok=True)


def _opened(target: Path) -> OutFile:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    return OutFile(target, part, os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _failed(target: Path, error: OSError) -> BadOutput:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return BadOutput(
            f"{target} cannot be written: {os.strerror(error.errno).lower()}. Nothing is left behind.",
            hint="Make room, choose a smaller --type, or write elsewhere with --outfile.",
        )
    return BadOutput(f"{target} cannot be written: {error.strerror or error}. Nothing is left behind.")
