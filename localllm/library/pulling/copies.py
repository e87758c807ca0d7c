"""A file that another store on this machine has already: found by its hash, or by its name and size, and used.

Whatever a store says of a file, its hash is computed before it counts, where there is one to compare it with.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from localllm.library import places
from localllm.library.pulling.partial import writing
from localllm.library.ranges import Fetcher, RemoteFile

_STEP = 4 << 20
_COMPARED = 1 << 16


def find_copy(file: RemoteFile, count: Callable[[int], None]) -> Path | None:
    """A file on this machine with the content of `file`, whose SHA-256 is known. `count` hears the bytes compared."""
    if file.sha256 is None:
        return None
    for path in _candidates(file, file.sha256):
        if _hash(path, count) == file.sha256:
            return path
    return None


def find_web_copy(file: RemoteFile, fetcher: Fetcher) -> Path | None:
    """A file on this machine with the name and size of `file`, and the same bytes at its start and its end.

    Of a file on a web server nobody tells the hash; metadata are at the start and weights at the end.

    Raises:
        DownloadFailed: the server refuses or fails.
    """
    found = list(places.files_named(file.name, file.size))
    if not found:
        return None
    ends = _ends(file, fetcher)
    return next((path for path in found if _has(path, ends)), None)


def is_web_copy(path: Path, file: RemoteFile, fetcher: Fetcher) -> bool:
    """Whether a file has the size of `file`, and the same bytes at its start and its end.

    Raises:
        DownloadFailed: the server refuses or fails.
    """
    return path.stat().st_size == file.size and _has(path, _ends(file, fetcher))


def is_whole_copy(path: Path, file: RemoteFile, fetcher: Fetcher) -> bool:
    """Whether a file is `file` byte for byte, which is read for that: its server gives no parts.

    Raises:
        DownloadFailed: the server refuses or fails.
        BadOutput: the file at `path` cannot be read.
    """
    if path.stat().st_size != file.size:
        return False
    fetcher.most_skipped = float("inf")
    with writing(path), path.open("rb") as content:

        def compare(done: int, chunk: bytes | memoryview) -> None:
            if os.pread(content.fileno(), len(chunk), done) != chunk:
                raise _Other

        try:
            fetcher.stream(file, 0, file.size, compare)
        except _Other:
            return False
    return True


class _Other(Exception):
    """A byte differs."""


def has_sha256(path: Path, sha256: str) -> bool:
    """Whether the content of a file has this hash."""
    return _hash(path, lambda _: None) == sha256


def put_copy(path: Path, blob: Path) -> None:
    """Let `blob` be the file `path` without storing it twice: by a hard link, which stays when `path` is removed.

    Raises:
        BadOutput: the folder of `blob` cannot be written.
    """
    with writing(blob):
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.unlink(missing_ok=True)
        try:
            blob.hardlink_to(path.resolve())
        except OSError:
            # Another file system, or a file of another person's.
            blob.symlink_to(path.resolve())


def _ends(file: RemoteFile, fetcher: Fetcher) -> dict[int, bytearray]:
    """The bytes at the start and the end of a file on a web server, by where they are."""
    size = min(_COMPARED, file.size)
    ends = {start: bytearray(size) for start in (0, file.size - size)}
    for start, buffer in ends.items():
        fetcher.fetch(file, start, memoryview(buffer))
    return ends


def _has(path: Path, ends: dict[int, bytearray]) -> bool:
    with suppress(OSError), path.open("rb") as content:
        return all(os.pread(content.fileno(), len(data), start) == data for start, data in ends.items())
    return False


def _candidates(file: RemoteFile, sha256: str) -> Iterator[Path]:
    seen: set[Path] = set()
    for found in (places.files_with_sha256(sha256), places.files_named(file.name, file.size)):
        for path in found:
            place = path.resolve()
            if place not in seen and place.stat().st_size == file.size:
                seen.add(place)
                yield path


def _hash(path: Path, count: Callable[[int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    with suppress(OSError), path.open("rb") as content:
        while data := content.read(_STEP):
            digest.update(data)
            done += len(data)
            count(done)
    return digest.hexdigest()
