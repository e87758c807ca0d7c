"""Small files that other programs, or another process of ours, may be writing: read if they can be, replaced whole."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is none, it cannot be read, or it is damaged."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def read_line(path: Path) -> str:
    """The first line of a text file without the space around it; empty where there is none."""
    try:
        return path.read_text(encoding="utf-8").strip().partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return ""


def keep_json(path: Path, document: Mapping[str, Any]) -> bool:
    """Put the object in place of the file, with its folder. Says whether it could: it can be done without."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(document).encode())
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes that ask for it from the file, so that nothing is lost between reading and replacing it.

    Makes its folder, and a hidden file beside it that stays.

    Raises:
        OSError: the lock cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace(path: Path, data: bytes) -> None:
    """Put `data` in place of the file, with its mode; whoever reads sees the old one or the new one.

    Raises:
        OSError: it cannot be written; it is as it was, and nothing lies beside it.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(data)
        with contextlib.suppress(FileNotFoundError):
            part.chmod(path.stat().st_mode & 0o777)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # also of who pressed Ctrl-C
