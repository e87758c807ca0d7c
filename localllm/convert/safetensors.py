"""The headers of safetensors files: what tensors are in them and where. Never weights.

Format: a u64 with the length of a JSON header; the header maps names to dtype, shape and a range of bytes behind it.
Ranges do not overlap.
"""

from __future__ import annotations

import itertools
import json
import math
import struct
from typing import Any

import numpy as np

from localllm.convert.files import Files
from localllm.convert.tensor import DTYPES, SourceTensor
from localllm.errors import BadCheckpoint, UnsupportedModel

_MAX_HEADER = 100 << 20


def read_safetensors_header(files: Files, file: str) -> list[SourceTensor]:
    """The tensors of one safetensors file, in the order of its header.

    Raises:
        BadCheckpoint: not a safetensors file, cut short or inconsistent.
        UnsupportedModel: a tensor of a type that is not converted.
    """
    place, size = f"{files.title}: {file}", files.size(file)
    head = bytearray(8)
    if files.read_into(file, 0, memoryview(head)) != 8:
        raise BadCheckpoint(f"{place} is not a safetensors file: it has {size} bytes.")
    (length,) = struct.unpack("<Q", head)
    if length > min(size - 8, _MAX_HEADER):
        raise BadCheckpoint(
            f"{place} is cut short or not a safetensors file: its header should take {length:,} bytes of {size:,}."
        )
    buffer = bytearray(length)
    files.read_into(file, 8, memoryview(buffer))
    try:
        header = json.loads(buffer, object_pairs_hook=_without_repeats)
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        tensors = [_source_tensor(file, name, entry, 8 + length, place) for name, entry in entries]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise BadCheckpoint(f"{place}: the header is not that of a safetensors file ({error!r}).") from error
    end = 8 + length + max((entry["data_offsets"][1] for _, entry in entries), default=0)
    if end > size:
        raise BadCheckpoint(
            f"{place} is cut short: {end - size:,} bytes are missing (it has {size:,} of {end:,}).",
            hint="Download it again; nothing was written.",
        )
    ordered = sorted((tensor for tensor in tensors if tensor.rows), key=lambda tensor: tensor.offset)
    for before, after in itertools.pairwise(ordered):
        if before.offset + before.rows * before.row_bytes > after.offset:
            raise BadCheckpoint(f"{place}: the bytes of {before.name} and {after.name} overlap.")
    return tensors


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _whole(number: Any) -> int:
    if type(number) is not int:
        raise ValueError(f"{number!r} is no whole number")
    return number


def _source_tensor(file: str, name: str, entry: dict[str, Any], data: int, place: str) -> SourceTensor:
    dtype, shape = entry["dtype"], tuple(_whole(n) for n in entry["shape"])
    begin, end = (_whole(n) for n in entry["data_offsets"])
    if dtype not in DTYPES:
        raise UnsupportedModel(
            f"{place}: {name} is of type {dtype}; {', '.join(DTYPES)} are known.",
            hint="Convert the original checkpoint in BF16, F16 or F32.",
        )
    wanted = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
    if begin < 0:
        raise BadCheckpoint(f"{place}: {name} begins {-begin:,} bytes before the data.")
    if min(shape, default=0) < 0 or end - begin != wanted:
        raise BadCheckpoint(f"{place}: {name} has {end - begin:,} bytes, its shape {list(shape)} takes {wanted:,}.")
    return SourceTensor(name, dtype, shape, file, data + begin)
