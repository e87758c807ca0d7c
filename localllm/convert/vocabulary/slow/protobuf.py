"""The wire format of protocol buffers, as far as reading needs it: the fields of a message, by number.

A message is a row of fields. Each begins with a number that holds, from the fourth bit on, which field it is, and in
its last three bits how long it is: a varint (0), eight bytes (1), a length and as many bytes (2), or four bytes (5).
The other two, groups, have been out of use since before SentencePiece. Source: the chapter on encoding of protobuf's
manual.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from localllm.errors import BadCheckpoint

VARINT, EIGHT_BYTES, BYTES, FOUR_BYTES = 0, 1, 2, 5
LONGEST_VARINT = 10

COPY_AGAIN = "Copy the file again from where the checkpoint comes from."

Field = tuple[int, int, int, int, int]
"""Its number, how it is encoded, a varint's value, and from where to where its bytes are (of BYTES without length)."""


def fields(title: str, data: bytes, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message in the bytes from `start` to `stop`. What is damaged is told by its byte in `data`.

    Raises:
        BadCheckpoint: a field does not end in the message, or is encoded in an unknown way.
    """
    at = start
    while at < stop:
        began = at
        key, at = varint(title, data, at, stop)
        number, wire, value, ends = key >> 3, key & 7, 0, at
        if wire == BYTES:
            length, at = varint(title, data, at, stop)
            ends = at + length
        elif wire == VARINT:
            value, ends = varint(title, data, at, stop)
        elif wire == FOUR_BYTES:
            ends = at + 4
        elif wire == EIGHT_BYTES:
            ends = at + 8
        else:
            raise damaged(title, began, f"a field is encoded in the way {wire}, which there is not")
        if number == 0:
            raise damaged(title, began, "a field has the number 0, which none has")
        if ends > stop:
            raise damaged(title, began, f"field {number} needs {ends - stop} bytes more than there are")
        yield number, wire, value, at, ends
        at = ends


def varint(title: str, data: bytes, at: int, stop: int) -> tuple[int, int]:
    """A whole number of 64 bits without sign, seven bits a byte, the lowest first; and where it ends."""
    if at < stop and data[at] < 128:
        return data[at], at + 1
    value = shift = 0
    for place in range(at, min(at + LONGEST_VARINT, stop)):
        byte = data[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, place + 1
        shift += 7
    raise damaged(title, at, "a number does not end")


def whole(value: int) -> int:
    """A varint as `int32` and `int64` have it: the upper half of its range is negative."""
    return value - (1 << 64) if value >> 63 else value


def single(title: str, data: bytes, field: Field) -> float:
    """The number in single precision in a field of four bytes.

    Raises:
        BadCheckpoint: it is not encoded as one.
    """
    expect(title, field, FOUR_BYTES)
    value: float = struct.unpack_from("<f", data, field[3])[0]
    return value


def text(title: str, data: bytes, field: Field) -> str:
    """The text of a field.

    Raises:
        BadCheckpoint: it is not encoded as one, or not UTF-8.
    """
    expect(title, field, BYTES)
    try:
        return data[field[3] : field[4]].decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(title, field[3] + error.start, f"a text is not UTF-8 ({error.reason})") from None


def expect(title: str, field: Field, wire: int) -> None:
    """Refuse a field that is not encoded as what it is.

    Raises:
        BadCheckpoint: it is encoded in another way than `wire`.
    """
    number, found, _, at, _ = field
    if found != wire:
        raise damaged(title, at, f"field {number} is encoded in the way {found} and not {wire}")


def damaged(title: str, at: int, what: str) -> BadCheckpoint:
    """The error of a damaged file; `at` is the byte."""
    return BadCheckpoint(f"{title}: byte {at}: {what}.", hint=COPY_AGAIN)
