"""One snapshot on disk: the state of a KV cache, the tokens that it is of, and what it is good for.

The format, little-endian: `MAGIC`; the length of the header, uint32; the header, JSON; the token ids, int32; the CRC-32
of all that, uint32; the state, whose length and CRC-32 the header has.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import time
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

MAGIC = b"localllm KV 1\n"
LONGEST_HEADER = 64 << 20
CHUNK = 16 << 20


class Damaged(Exception):
    """A file that holds no snapshot."""


@dataclass(frozen=True)
class Identity:
    """What a state is good for. `place` is the model's file, `content` tells whether it is still the same one and
    `setup` what else a state depends on: the types of the cache, adapters, the build of llama.cpp."""

    place: str
    content: str
    setup: str

    @property
    def prefix(self) -> str:
        """How the names of its files begin."""
        return "-".join(digest(part) for part in (self.place, self.content, self.setup))


@dataclass(frozen=True)
class KnownText:
    """The text that `tokens` came from: a tokenizer may cut it otherwise than the model did that wrote a part of it."""

    text: str
    tokens: array[int]


@dataclass(frozen=True)
class Snapshot:
    """A state on disk: of `tokens`, in the file `path`, where it is the `size` bytes from `offset` on."""

    path: Path
    tokens: array[int]
    offset: int
    size: int
    crc: int
    texts: tuple[KnownText, ...] = field(default=())


def state_of(snapshot: Snapshot) -> bytearray | None:
    """What the file holds; None if it is gone, or holds something else."""
    state = bytearray(snapshot.size)
    try:
        with snapshot.path.open("rb") as file:
            file.seek(snapshot.offset)
            good = file.readinto(state) == snapshot.size and zlib.crc32(state) == snapshot.crc
    except OSError:
        return None
    return state if good else None


def digest(part: str | bytes) -> str:
    """A name for something that may be long."""
    import hashlib  # all loads import this module, and few keep snapshots

    data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
    return hashlib.sha256(data).hexdigest()[:16]


def head(identity: Identity, tokens: array[int], state: bytearray, texts: tuple[KnownText, ...]) -> bytes:
    """What stands in the file before the state."""
    header = {
        "identity": [identity.place, identity.content, identity.setup],
        "tokens": len(tokens),
        "bytes": len(state),
        "crc": zlib.crc32(state),
        "texts": [[known.text, known.tokens.tolist()] for known in texts],
    }
    text = json.dumps(header).encode()
    head = MAGIC + struct.pack("<I", len(text)) + text + _little(tokens).tobytes()
    return head + struct.pack("<I", zlib.crc32(head))


def write(file: IO[bytes], state: bytearray, deadline: float) -> bool:
    """Write all of it; False if that takes too long."""
    for start in range(0, len(state), CHUNK):
        if time.monotonic() > deadline:
            return False
        file.write(memoryview(state)[start : start + CHUNK])
    return True


def read(path: Path, identity: Identity) -> Snapshot:
    """A snapshot without its state.

    Raises:
        Damaged: the file holds none, or one of another identity.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        begin = _exactly(file, len(MAGIC) + 4)
        length = struct.unpack("<I", begin[-4:])[0]
        if not begin.startswith(MAGIC) or length > LONGEST_HEADER:
            raise Damaged
        text = _exactly(file, length)
        header = _parsed(text)
        ids = _exactly(file, 4 * header["tokens"])
        (crc,) = struct.unpack("<I", _exactly(file, 4))
        offset = file.tell()
        whole = os.fstat(file.fileno()).st_size == offset + header["bytes"]
    if crc != zlib.crc32(begin + text + ids) or not whole:
        raise Damaged
    if header["identity"] != [identity.place, identity.content, identity.setup]:
        raise Damaged  # of another one whose digests are the same
    texts = tuple(KnownText(known, array("i", tokens)) for known, tokens in header["texts"])
    return Snapshot(path, _little(array("i", ids)), offset, header["bytes"], header["crc"], texts)


def _parsed(text: bytes) -> dict[str, Any]:
    # Read before its checksum can be: its sizes say where that stands.
    try:
        header = dict(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        raise Damaged from None
    sizes = (header.get("tokens"), header.get("bytes"))
    if not all(isinstance(size, int) and 0 <= size < 1 << 48 for size in sizes):
        raise Damaged
    return header


def _exactly(file: IO[bytes], size: int) -> bytes:
    if size > os.fstat(file.fileno()).st_size:
        raise Damaged
    data = file.read(size)
    if len(data) != size:
        raise Damaged
    return data


def _little(tokens: array[int]) -> array[int]:
    """The same in, or from, the order of bytes on disk."""
    if sys.byteorder == "little":
        return tokens
    swapped = tokens[:]
    swapped.byteswap()
    return swapped
