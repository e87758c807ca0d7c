"""Makes the header of a GGUF file: keys with their exact types, tensor entries, alignment. The twin of `gguf_file`.

Knows the format only; what a key or a tensor means is decided by the families and the vocabulary.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.gguf_file import DEFAULT_ALIGNMENT, TENSOR_TYPES

_UINT8, _UINT16, _UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 0, 2, 4, 5, 6, 7, 8, 9
_CODES = {
    _UINT8: "B",
    1: "b",
    _UINT16: "H",
    3: "h",
    _UINT32: "I",
    _INT32: "i",
    _FLOAT32: "f",
    _BOOL: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_TYPE_NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}


@dataclass(frozen=True)
class KeyValue:
    """One value of metadata with its GGUF type; `element` is the type of an array's elements.

    `raw` is set for a value that comes from another file: its type and value as they stood there.
    """

    kind: int
    value: Any
    element: int | None = None
    raw: bytes | None = None

    def packed(self) -> bytes:
        """As it stands in the file, its type first."""
        if self.raw is not None:
            return self.raw
        if self.kind != _ARRAY:
            return struct.pack("<i", self.kind) + _scalar(self.kind, self.value)
        assert self.element is not None
        head = struct.pack("<iiQ", _ARRAY, self.element, len(self.value))
        if self.element == _STRING:
            return head + b"".join(map(_text, self.value))
        return head + struct.pack(f"<{len(self.value)}{_CODES[self.element]}", *self.value)


Keys = dict[str, KeyValue]
"""Metadata in the order in which it is written."""


def u16(value: int) -> KeyValue:
    """A small count."""
    return KeyValue(_UINT16, value)


def u32(value: int) -> KeyValue:
    """A count or an id."""
    return KeyValue(_UINT32, value)


def i32(value: int) -> KeyValue:
    """A whole number that may be negative."""
    return KeyValue(_INT32, value)


def f32(value: float) -> KeyValue:
    """A number, rounded to float32."""
    return KeyValue(_FLOAT32, value)


def flag(value: bool) -> KeyValue:
    """True or false."""
    return KeyValue(_BOOL, value)


def text(value: str) -> KeyValue:
    """A string."""
    return KeyValue(_STRING, value)


def texts(values: Sequence[str]) -> KeyValue:
    """An array of strings."""
    return KeyValue(_ARRAY, values, _STRING)


def u8s(values: bytes) -> KeyValue:
    """An array of bytes."""
    return KeyValue(_ARRAY, values, _UINT8)


def i32s(values: Sequence[int]) -> KeyValue:
    """An array of int32."""
    return KeyValue(_ARRAY, values, _INT32)


def flags(values: Sequence[bool]) -> KeyValue:
    """An array of true and false."""
    return KeyValue(_ARRAY, values, _BOOL)


def f32s(values: Sequence[float]) -> KeyValue:
    """An array of float32."""
    return KeyValue(_ARRAY, values, _FLOAT32)


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _scalar(kind: int, value: Any) -> bytes:
    return _text(value) if kind == _STRING else struct.pack("<" + _CODES[kind], value)


@dataclass(frozen=True)
class Entry:
    """One tensor of the file: its shape in GGUF's order (row length first) and where its data goes.

    `offset` counts from the start of the file; `n_bytes` is without the padding that follows.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int


@dataclass(frozen=True)
class Layout:
    """A whole GGUF but for its weights: the bytes of the header, the place of each tensor, the final size."""

    header: bytes
    entries: tuple[Entry, ...]
    file_bytes: int


def lay_out(keys: Mapping[str, KeyValue], tensors: Sequence[tuple[str, tuple[int, ...], str]]) -> Layout:
    """Place `tensors` (name, shape with the row length first, type) in this order behind a header with `keys`.

    Format: `gguf.h` of llama.cpp, version 3. Each tensor starts at a multiple of 32 bytes and the last one is padded
    as well, as llama.cpp writes it.
    """
    parts = [b"GGUF", struct.pack("<Iqq", 3, len(tensors), len(keys))]
    parts += [_text(name) + value.packed() for name, value in keys.items()]
    sizes, offset = [], 0
    for name, shape, type_name in tensors:
        number = _TYPE_NUMBERS[type_name]
        _, block, block_bytes = TENSOR_TYPES[number]
        parts.append(_text(name) + struct.pack(f"<I{len(shape)}qiQ", len(shape), *shape, number, offset))
        sizes.append((offset, math.prod(shape) // block * block_bytes))
        offset = _padded(offset + sizes[-1][1])
    header = b"".join(parts)
    header += bytes(_padded(len(header)) - len(header) if tensors else 0)
    entries = tuple(
        Entry(name, shape, type_name, len(header) + start, n_bytes)
        for (name, shape, type_name), (start, n_bytes) in zip(tensors, sizes, strict=True)
    )
    return Layout(header, entries, len(header) + offset)


def _padded(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
