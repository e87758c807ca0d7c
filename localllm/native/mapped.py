"""Files that are mapped into this process: which of their pages it holds on to."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_DONTNEED = 4  # MADV_DONTNEED of Linux


def let_go(files: Sequence[Path]) -> None:
    """Take the pages of mapped `files` out of the resident memory of this process, on Linux; elsewhere do nothing.

    They stay in the system's page cache, and one that is read again comes back in microseconds.
    """
    try:
        maps = Path("/proc/self/maps").read_bytes()
    except OSError:
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, end in _shared(maps, {os.fsencode(file.resolve()) for file in files}):
        madvise(start, end - start, _DONTNEED)


def _shared(maps: bytes, files: set[bytes]) -> Iterator[tuple[int, int]]:
    """The addresses where these files are mapped and shared: pages of a private mapping may hold what no file does.

    Source: `/proc/PID/maps`, proc(5): address, permissions, offset, device, inode, path.
    """
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[5] in files and fields[1].endswith(b"s"):
            start, end = fields[0].split(b"-")
            yield int(start, 16), int(end, 16)
