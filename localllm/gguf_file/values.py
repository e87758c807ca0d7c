"""The values of metadata: numbers, texts, and arrays of these."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Union, overload

SCALARS: dict[int, str] = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
STRING, ARRAY = 8, 9
U64 = struct.Struct("<Q")

Scalar = Union[int, float, bool, str]  # noqa: UP007 - evaluated at run time on Python 3.10 as well
Value = Union[Scalar, "Array"]


class Array(Sequence[Scalar]):
    """An array of metadata, kept as the bytes of the file and decoded when first read."""

    def __init__(self, kind: int, count: int, raw: bytes) -> None:
        self._kind, self._count, self._raw = kind, count, raw

    @cached_property
    def _values(self) -> tuple[Scalar, ...]:
        if self._kind != STRING:
            code = SCALARS[self._kind]
            return struct.unpack(f"<{self._count}{code[1]}", self._raw)
        raw, at, strings = self._raw, 0, []
        for _ in range(self._count):
            start = at + 8
            at = start + U64.unpack_from(raw, at)[0]
            strings.append(raw[start:at].decode("utf-8", "replace"))
        return tuple(strings)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Scalar: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Scalar, ...]: ...
    def __getitem__(self, index: int | slice) -> Scalar | tuple[Scalar, ...]:
        return self._values[index]

    def __iter__(self) -> Iterator[Scalar]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Array):
            return (self._kind, self._count, self._raw) == (other._kind, other._count, other._raw)
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Array({self._count} of {'string' if self._kind == STRING else SCALARS[self._kind][1]})"
