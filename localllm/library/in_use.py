"""Which programs on this machine have a file open, as far as the system tells."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_PROCESSES = Path("/proc")


def users_of(files: Iterable[Path]) -> list[str]:
    """The programs that have one of the files open or mapped into memory: `ollama (process 1234)`.

    A file with another name on the disk is in use only where it was opened under this one: the other name stays.
    Linux tells it of the processes of the same person, and of all to root; elsewhere nothing is known.
    """
    states = {path: state for path in files if (state := _state(path)) is not None}
    wanted = {(state.st_dev, state.st_ino) for state in states.values() if state.st_nlink == 1}
    paths = {os.path.realpath(path) for path in states}
    found = []
    for process in _processes():
        opened = any(_target(entry) in paths or _identity(entry) in wanted for entry in _entries(process / "fd"))
        if opened or paths & _mapped(process):
            found.append(f"{_name(process)} (process {process.name})")
    return found


def _processes() -> Iterator[Path]:
    yield from (entry for entry in _entries(_PROCESSES) if entry.name.isdigit())


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # it is another person's, or has ended
        return []


def _mapped(process: Path) -> set[str]:
    """The files that are mapped: a line ends with the path, the sixth field."""
    try:
        lines = (process / "maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6}


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a program"


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _identity(path: Path) -> tuple[int, int] | None:
    state = _state(path)
    return None if state is None else (state.st_dev, state.st_ino)
