"""Where the files of a checkpoint are: a small interface, and the folder on this machine.

Reads bytes; knows nothing of what is in them.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """The files of one checkpoint."""

    @property
    def title(self) -> str:
        """What messages call it."""

    def names(self) -> list[str]:
        """The names of all files at the top level, and of those one folder below as `folder/name`."""

    def size(self, name: str) -> int:
        """Bytes of a file that is there."""

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on; returns the bytes read, fewer only at the end. Safe from any thread."""

    def close(self) -> None:
        """Let go of what is open."""


class LocalFiles:
    """The files of a folder. Each is opened once and read with `pread`, which needs no lock and no mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        """The folder."""
        return str(self.folder)

    def names(self) -> list[str]:
        """The names of all files in the folder, and of those in its folders that are not hidden."""
        folders = [entry for entry in self.folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
        below = [f"{folder.name}/{entry.name}" for folder in folders for entry in folder.iterdir() if entry.is_file()]
        return sorted([entry.name for entry in self.folder.iterdir() if entry.is_file()] + below)

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self.folder / name).stat().st_size

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on; returns the bytes read, fewer only at the end."""
        with self._lock:
            handle = self._open.get(name)
            if handle is None:
                handle = self._open[name] = os.open(self.folder / name, os.O_RDONLY)
        done = 0
        while done < len(target):
            read = os.preadv(handle, [target[done:]], offset + done)
            if read == 0:
                break
            done += read
        return done

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])
