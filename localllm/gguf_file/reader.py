"""Walks the bytes of a header, and trusts none of them: every length is checked against the file before it is used."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from localllm.errors import BadModelFile
from localllm.gguf_file.header import Header, TensorInfo
from localllm.gguf_file.numbers import TENSOR_TYPES
from localllm.gguf_file.values import ARRAY, SCALARS, STRING, U64, Array, Value

DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_NAME = 63

# Far above any published model (the largest headers hold some 20 MB of vocabulary), low enough to be harmless.
_MAX_HEADER = 128 << 20
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 18
_MAX_ELEMENTS = 1 << 22
_FIRST_READ = 1 << 20


class Reader:
    """Walks the header from its first byte. Reads more of the file only when a checked length asks for it."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        self.size = file.seek(0, 2)
        file.seek(0)
        self.buffer, self.at = b"", 0

    def bad(self, field: str, what: str, at: int | None = None) -> BadModelFile:
        """The error to raise: `what` is wrong with `field`, at this byte or where the reader is."""
        place = self.at if at is None else at
        return BadModelFile(
            f"{self.path}: {field} at byte {place:,}: {what}.",
            hint="The file is damaged or incomplete: download or convert it again.",
        )

    def need(self, count: int, field: str) -> int:
        """Make sure that `count` more bytes are in the buffer, step over them and return where they start."""
        start, end = self.at, self.at + count
        if end > len(self.buffer):
            if end > self.size:
                raise self.bad(field, f"needs {count:,} bytes, but the file ends at byte {self.size:,}")
            if end > _MAX_HEADER:
                raise self.bad(field, f"a header of more than {_MAX_HEADER >> 20} MiB is not plausible")
            target = min(self.size, max(end, 2 * len(self.buffer), _FIRST_READ))
            self.buffer += self.file.read(target - len(self.buffer))
            if end > len(self.buffer):
                raise self.bad(field, "the file became shorter while it was read")
        self.at = end
        return start

    def number(self, code: str, field: str) -> int | float | bool:
        """The next number; `code` is one of `struct`."""
        start = self.need(struct.calcsize(code), field)
        value: int | float | bool = struct.unpack_from(code, self.buffer, start)[0]
        return value

    def count(self, code: str, field: str, limit: int) -> int:
        """The next number, which counts something there can be at most `limit` of."""
        start = self.at
        value = int(self.number(code, field))
        if not 0 <= value <= limit:
            raise self.bad(field, f"{value:,} is not plausible", start)
        return value

    def string(self, field: str) -> str:
        """The next text."""
        start = self.at
        length = int(self.number("<Q", f"length of {field}"))
        if length > self.size - self.at:
            raise self.bad(f"length of {field}", f"{length:,} bytes, but the file has {self.size:,}", start)
        begin = self.need(length, field)
        try:
            return self.buffer[begin : self.at].decode("utf-8")
        except UnicodeDecodeError:
            raise self.bad(field, "not valid UTF-8", begin) from None

    def header(self) -> Header:
        """All of the header, checked."""
        version, n_tensors, n_keys = self.preamble()
        metadata: dict[str, Value] = {}
        spans: dict[str, tuple[int, int]] = {}
        for index in range(n_keys):
            start = self.at
            key = self.string(f"name of key {index} of {n_keys}")
            if not key or key in metadata:
                what = f"{key!r} is there twice" if key else "is empty"
                raise self.bad(f"name of key {index}", what, start)
            begin = self.at
            metadata[key] = self.value(key)
            spans[key] = begin, self.at
        alignment = self.alignment(metadata)
        infos = self.tensor_infos(n_tensors)
        # A file without tensors (a vocabulary) ends where its header ends, so it has no padding.
        data_offset = _align(self.at, alignment) if infos else self.at
        tensors = self.placed(infos, data_offset, alignment)
        return Header(self.path, version, alignment, metadata, tensors, data_offset, self.size, spans)

    def preamble(self) -> tuple[int, int, int]:
        """The version, and how many tensors and keys there are."""
        if self.size < 4:
            raise BadModelFile(f"{self.path} is not a GGUF file: it has {self.size} bytes.")
        self.need(4, "magic")
        magic = self.buffer[:4]
        if magic != b"GGUF":
            raise BadModelFile(
                f"{self.path} is not a GGUF file: it starts with {magic!r}, not b'GGUF' (byte 0).",
                hint="`localllm convert` makes a GGUF of a Hugging Face checkpoint.",
            )
        version = int(self.number("<I", "version"))
        if version & 0xFFFF == 0 and version:
            raise BadModelFile(f"{self.path} is a big-endian GGUF (byte 4); only little-endian is read.")
        if version not in (2, 3):
            raise BadModelFile(f"{self.path}: version {version} at byte 4; versions 2 and 3 are read.")
        n_tensors = self.count("<q", "number of tensors", _MAX_TENSORS)
        n_keys = self.count("<q", "number of keys", _MAX_KEYS)
        return version, n_tensors, n_keys

    def value(self, key: str) -> Value:
        """The value of a key, which begins with its type."""
        start = self.at
        kind = int(self.number("<i", f"type of {key}"))
        if kind == STRING:
            return self.string(key)
        if kind == ARRAY:
            return self.array(key)
        if kind not in SCALARS:
            raise self.bad(f"type of {key}", f"{kind} is not a GGUF type", start)
        return self.number(SCALARS[kind], key)

    def array(self, key: str) -> Array:
        """The value of a key that is an array, behind its type."""
        start = self.at
        kind = int(self.number("<i", f"element type of {key}"))
        count = self.count("<Q", f"length of {key}", _MAX_ELEMENTS)
        if kind == STRING:
            return Array(kind, count, self.strings(key, count))
        if kind not in SCALARS:
            raise self.bad(f"element type of {key}", f"{kind} is not a type for arrays", start)
        begin = self.need(count * struct.calcsize(SCALARS[kind]), key)
        return Array(kind, count, self.buffer[begin : self.at])

    def strings(self, key: str, count: int) -> bytes:
        """Step over `count` strings; their bytes, lengths included."""
        begin = at = self.at
        unpack, buffer, length = U64.unpack_from, self.buffer, 0
        for index in range(count):  # hundreds of thousands: only the lengths are looked at
            try:
                (length,) = unpack(buffer, at)
            except (struct.error, OverflowError):  # it is not in the buffer
                self.ended(key, index - 1, at, length)
                self.need(8, f"length of {key}[{index}]")
                buffer = self.buffer
                (length,) = unpack(buffer, at)
            at += 8 + length
        self.ended(key, count - 1, at, length)
        return self.buffer[begin:at]

    def ended(self, key: str, index: int, at: int, length: int) -> None:
        """Step to the end `at` of a string of an array, which has that length."""
        self.at = at - length
        self.need(length, f"{key}[{index}]")

    def alignment(self, metadata: dict[str, Value]) -> int:
        """To what the places of tensors are multiples, in bytes."""
        value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(value, int) or not 1 <= value <= 1 << 24 or value & (value - 1):
            raise self.bad("general.alignment", f"{value!r} is not a power of two")
        return value

    def tensor_infos(self, count: int) -> list[tuple[str, tuple[int, ...], int, int, int]]:
        """Name, shape, type, offset and the byte of each entry, each checked by itself."""
        infos = []
        names: set[str] = set()
        for index in range(count):
            start = self.at
            name = self.string(f"name of tensor {index} of {count}")
            if name in names or len(name.encode()) > MAX_NAME:
                raise self.bad(f"name of tensor {index}", f"{name[:80]!r} is there twice or too long", start)
            names.add(name)
            n_dims = self.count("<I", f"dimensions of {name}", MAX_DIMS)
            shape = tuple(self.count("<q", f"shape of {name}", 1 << 48) for _ in range(n_dims)) or (1,)
            kind_at = self.at
            kind = int(self.number("<i", f"type of {name}"))
            if kind not in TENSOR_TYPES:
                raise self.bad(f"type of {name}", f"{kind} is not a tensor type that is known", kind_at)
            type_name, block, _ = TENSOR_TYPES[kind]
            if shape[0] % block:
                what = f"rows of {shape[0]} do not fill {type_name} blocks of {block}"
                raise self.bad(f"shape of {name}", what, start)
            infos.append((name, shape, kind, int(self.number("<Q", f"offset of {name}")), start))
        return infos

    def placed(
        self, infos: list[tuple[str, tuple[int, ...], int, int, int]], data_offset: int, alignment: int
    ) -> tuple[TensorInfo, ...]:
        """The tensors, checked to follow each other without a gap, as ggml demands, and to end inside the file."""
        expected, tensors = 0, []
        for name, shape, kind, offset, at in infos:
            if offset != expected:
                raise self.bad(f"offset of {name}", f"{offset:,} where {expected:,} comes next", at)
            type_name, block, block_bytes = TENSOR_TYPES[kind]
            n_bytes = math.prod(shape) // block * block_bytes
            tensors.append(TensorInfo(name, shape, type_name, data_offset + offset, n_bytes))
            expected = _align(offset + n_bytes, alignment)
        end = max((tensor.offset + tensor.n_bytes for tensor in tensors), default=0)
        if end > self.size:
            cut = next(tensor for tensor in tensors if tensor.offset + tensor.n_bytes > self.size)
            raise BadModelFile(
                f"{self.path} is cut short: {end - self.size:,} bytes are missing "
                f"(it has {self.size:,} of {end:,}). "
                f"The first tensor that is not whole is {cut.name} at byte {cut.offset:,}.",
                hint="Download or convert it again.",
            )
        return tuple(tensors)


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment
