"""Where the files of a checkpoint are: a small interface, and the folder on this machine.

Reads bytes; knows nothing of what is in them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from localllm.convert import origin as origins
from localllm.convert.origin import Origin

Range = tuple[str, int, int]
"""A file, where in it, and how many bytes."""


class Files(Protocol):
    """The files of one checkpoint."""

    @property
    def title(self) -> str:
        """What messages call it."""

    @property
    def origin(self) -> Origin:
        """Where it comes from."""

    def sha256(self, name: str) -> str | None:
        """The SHA-256 of a file, in hexadecimal digits, where it is known without reading the file."""

    def names(self) -> list[str]:
        """The names of all files at the top level, and of those one folder below as `folder/name`."""

    def size(self, name: str) -> int:
        """Bytes of a file that is there."""

    def version(self, name: str) -> str:
        """A text that is another one when the file was changed."""

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on; returns the bytes read, fewer only at the end. Safe from any thread."""

    def close(self) -> None:
        """Let go of what is open."""

    def expect(self, ranges: Sequence[Range]) -> None:
        """These will be read, about in this order. Who reads from afar reads ahead."""

    def stop(self) -> None:
        """Nothing more is wanted: reads that wait for something end with an error."""

    def remarks(self) -> list[str]:
        """What to tell people about reading these files."""
        return []

    def paths(self) -> list[Path]:
        """Those of the files that are on this machine."""
        return []

    def received(self) -> int:
        """Bytes that came from the network so far."""
        return 0


@contextmanager
def closed_on_error(place: Path | Files | None) -> Iterator[None]:
    """Close files when the block fails; otherwise they go to somebody who closes them. A folder is nothing open."""
    try:
        yield
    except BaseException:
        if place is not None and not isinstance(place, Path):
            place.close()
        raise


class LocalFiles(Files):
    """The files of a folder. Each is opened once and read with `pread`, which needs no lock and no mapping.

    `origin` is that of a folder that holds what a hub has; `remark` what to tell about that.
    """

    def __init__(self, folder: Path, origin: Origin | None = None, remark: str = "") -> None:
        self.folder = folder
        self._origin, self._remark = origin, remark
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def title(self) -> str:
        """The folder, or what it is a copy of."""
        return f"{self._origin.repo}@{self._origin.commit[:8]}" if self._origin else str(self.folder)

    @property
    def origin(self) -> Origin:
        """What it is a copy of, what the hub's own downloads say about themselves, or a name only."""
        return self._origin or origins.of_folder(self.folder)

    def sha256(self, name: str) -> str | None:
        """As the hub's downloads recorded it."""
        return origins.recorded_sha256(self.folder / name)

    def names(self) -> list[str]:
        """The names of all files in the folder, and of those in its folders that are not hidden and can be read."""
        entries = list(self.folder.iterdir())
        names = [entry.name for entry in entries if entry.is_file()]
        for folder in entries:
            if folder.is_dir() and not folder.name.startswith("."):
                # The root of a disk has lost+found, which is nobody's.
                with suppress(PermissionError):
                    names += [f"{folder.name}/{entry.name}" for entry in folder.iterdir() if entry.is_file()]
        return sorted(names)

    def paths(self) -> list[Path]:
        """All of them."""
        return [self.folder / name for name in self.names()]

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return (self.folder / name).stat().st_size

    def version(self, name: str) -> str:
        """Its size and the time of the last change."""
        found = (self.folder / name).stat()
        return f"{found.st_size} {found.st_mtime_ns}"

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

    def expect(self, ranges: Sequence[Range]) -> None:
        """The operating system reads ahead."""

    def stop(self) -> None:
        """Nothing waits."""

    def remarks(self) -> list[str]:
        """That the network was not needed, where it might have been."""
        where = [f"read from the hub's cache on this machine: {self.folder}"] if self._origin else []
        return [*where, *([self._remark] if self._remark else [])]
