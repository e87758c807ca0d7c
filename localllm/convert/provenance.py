"""Where a GGUF came from and how it was made, as keys of its metadata: no time, no path, so the same each time.

The GGUF specification has `general.source.repo_url`; what it has no key for is under `localllm.`. The type and its
importance matrix have keys of their own (`general.file_type`, `quantize.imatrix.*`).
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from localllm import __version__
from localllm.convert.files import Files
from localllm.convert.header import Keys, text, texts
from localllm.convert.recorded import settings_keys
from localllm.convert.settings import Settings
from localllm.errors import BadCheckpoint
from localllm.gguf_file import Array, Header
from localllm.native import lib

_CHUNK = 4 << 20


def provenance_keys(files: Files, weights: Sequence[str], settings: Settings) -> Keys:
    """The keys for a model whose weights are in these of the files.

    The SHA-256 of the weights are told where all are known: as the hub recorded them, or with `hash_source`, which
    leaves room for them; see `with_hashes`.
    """
    origin = files.origin
    known = [files.sha256(name) for name in weights]
    missing = iter(range(len(weights)))
    keys: Keys = {}
    if origin.url:
        keys["general.source.repo_url"] = text(origin.url)
    keys["localllm.source.name"] = text(origin.name)
    if origin.repo:
        keys["localllm.source.repository"] = text(origin.repo)
    if origin.commit:
        keys["localllm.source.revision"] = text(origin.commit)
    keys["localllm.source.files"] = texts(list(weights))
    if settings.hash_source or all(known):
        keys["localllm.source.sha256"] = texts([digest or _room(next(missing)) for digest in known])
    keys["localllm.version"] = text(__version__)
    keys["localllm.llama_cpp"] = text(lib.build())
    return keys | settings_keys(settings)


def unknown_hashes(files: Files, weights: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """The files whose SHA-256 the keys have room for, in the order of the rooms."""
    return tuple(name for name in weights if settings.hash_source and files.sha256(name) is None)


def _room(number: int) -> str:
    return f"{number:064}"


def with_hashes(header: bytes, digests: Sequence[str]) -> bytes:
    """The header with the hashes in their rooms; its size stays."""
    for number, digest in enumerate(digests):
        header = header.replace(_room(number).encode(), digest.encode(), 1)
    return header


@contextmanager
def hashing(files: Files, names: Sequence[str]) -> Iterator[list[Future[str]]]:
    """The SHA-256 of the files, computed by a thread of its own while the block runs.

    The results raise:
        BadCheckpoint: a file cannot be read.
    """
    stopped = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="sha256") as pool:
        try:
            yield [pool.submit(_sha256, files, name, stopped) for name in names]
        finally:
            stopped.set()


def _sha256(files: Files, name: str, stopped: threading.Event) -> str:
    digest, buffer, at = hashlib.sha256(), memoryview(bytearray(_CHUNK)), 0
    while not stopped.is_set():
        try:
            read = files.read_into(name, at, buffer)
        except OSError as error:
            raise BadCheckpoint(f"{files.title}: {name} cannot be read: {error.strerror}.") from error
        if read == 0:
            break
        digest.update(buffer[:read])
        at += read
    return digest.hexdigest()


def read_provenance(header: Header) -> dict[str, Any]:
    """What a GGUF says of where it comes from, the common prefixes left out; empty for most files of other tools."""
    found: dict[str, Any] = {}
    for key, value in header.metadata.items():
        name = re.sub(r"^(localllm|general)\.", "", key)
        if key.startswith(("localllm.", "general.source.", "general.quantized_by", "quantize.imatrix.")):
            found[name] = list(value) if isinstance(value, Array) else value
    return found
