"""bitsandbytes: four bits from a table of sixteen numbers, a largest value for each block; and int8 rows.

Four-bit numbers lie behind each other whatever the shape, two in a byte, the first in its high half. The largest values
may be quantized themselves, to eight bits from a second table.

Sources: `QuantState`, `dequantize_4bit` and `int8_vectorwise_dequant` of bitsandbytes. It rounds the product to the
type that it computes in; here it stays float32.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert.files import Files
from localllm.convert.packed.numbers import Floats, floats
from localllm.convert.packed.parts import Parts, unsupported
from localllm.convert.tensor import Rows, SourceTensor, read_rows
from localllm.errors import BadCheckpoint

_STATE = re.compile(r"(.+)\.quant_state\.bitsandbytes__(\w+)")


@dataclass(frozen=True)
class Nested:
    """Largest values in eight bits: `table[code] * largest[block] + offset`."""

    codes: SourceTensor
    table: Floats
    largest: SourceTensor
    block: int
    offset: np.float32

    def values(self, files: Files, first: int, last: int) -> Floats:
        """Values `first` to `last`."""
        codes = _flat(files, self.codes, first, last)
        begin = first // self.block
        largest = _flat(files, self.largest, begin, math.ceil(last / self.block))
        scales = _repeated(floats(largest, self.largest.dtype), self.block, first - begin * self.block, len(codes))
        found: Floats = self.table[codes] * scales + self.offset
        return found


@dataclass(frozen=True)
class Blocks4:
    """Four-bit numbers in blocks of `block`, of a weight with rows of `columns`."""

    codes: SourceTensor
    table: Floats
    largest: SourceTensor | Nested
    block: int
    columns: int

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`."""
        first, last = start * self.columns, stop * self.columns
        codes = _high_first(_flat(files, self.codes, first // 2, math.ceil(last / 2)))
        numbers: Floats = self.table[codes[first % 2 :][: last - first]]
        begin, end = first // self.block, math.ceil(last / self.block)
        if isinstance(self.largest, Nested):
            largest = self.largest.values(files, begin, end)
        else:
            largest = floats(_flat(files, self.largest, begin, end), self.largest.dtype)
        numbers *= _repeated(largest, self.block, first - begin * self.block, last - first)
        return numbers.reshape(stop - start, self.columns)


@dataclass(frozen=True)
class Int8Rows:
    """int8 and the largest value of each row, which 127 stands for."""

    weight: SourceTensor
    largest: SourceTensor

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`."""
        numbers = read_rows(files, self.weight, start, stop).astype(np.float32)
        numbers *= floats(_flat(files, self.largest, start, stop), self.largest.dtype).reshape(-1, 1)
        numbers *= np.float32(1 / 127)
        return numbers


def _flat(files: Files, tensor: SourceTensor, first: int, last: int) -> Rows:
    """Numbers `first` to `last` of a tensor of any shape."""
    return read_rows(files, replace(tensor, shape=(math.prod(tensor.shape),)), first, last).reshape(-1)


def _repeated(values: Floats, times: int, skip: int, count: int) -> Floats:
    return np.repeat(values, times)[skip : skip + count]


def _high_first(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    codes = np.empty((len(packed), 2), dtype=np.uint8)
    np.right_shift(packed, 4, out=codes[:, 0])
    np.bitwise_and(packed, 15, out=codes[:, 1])
    return codes.reshape(-1)


def unpack(parts: Parts, _: Mapping[str, Any]) -> None:
    """NF4 and FP4 with and without quantized largest values, and int8 rows, each where its tensors are.

    Raises:
        BadCheckpoint: a tensor is missing or does not fit the others.
        UnsupportedModel: another type of quantization, or int8 in an order of its own.
    """
    for state in parts.stored.values():
        match = _STATE.fullmatch(state.name)
        if match:
            parts.find(state.name)
            _unpack_4bit(parts, match.group(1), match.group(2), _state(parts, state))
    for largest in parts.ending(".SCB"):
        _unpack_int8(parts, largest)


def _state(parts: Parts, tensor: SourceTensor) -> dict[str, Any]:
    """What bitsandbytes says of a weight, as JSON in a tensor of bytes."""
    try:
        found = json.loads(parts.numbers(tensor).tobytes())
        shape = found["shape"]
        sizes = [*shape, found["blocksize"], found.get("nested_blocksize", 1)]
        if not shape or not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError("sizes that are none")
        float(found.get("nested_offset", 0))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadCheckpoint(
            f"{parts.files.title}: {tensor.name} does not say how its weight is quantized ({error!r})."
        ) from error
    return dict(found)


def _unpack_4bit(parts: Parts, name: str, kind: str, state: Mapping[str, Any]) -> None:
    if kind not in ("nf4", "fp4"):
        raise unsupported("bitsandbytes", "quant_type", kind)
    shape = tuple(state["shape"])
    count = math.prod(shape)
    codes, table = parts.need(name, name), parts.need(f"{name}.quant_map", name)
    size = codes.rows * codes.row_bytes
    if size != math.ceil(count / 2):
        raise parts.bad_shape(codes, f"{count} numbers of four bits, for a weight of shape {list(shape)}")
    blocks = math.ceil(count / state["blocksize"])
    largest: SourceTensor | Nested
    if f"{name}.nested_absmax" in parts.stored:
        inner = state.get("nested_blocksize", 256)
        largest = Nested(
            _vector(parts, f"{name}.absmax", name, blocks, "U8"),
            _table(parts, parts.need(f"{name}.nested_quant_map", name), 256),
            _vector(parts, f"{name}.nested_absmax", name, math.ceil(blocks / inner)),
            inner,
            np.float32(state.get("nested_offset", 0)),
        )
    else:
        largest = _vector(parts, f"{name}.absmax", name, blocks)
    flat = replace(codes, dtype="U8", shape=(size,))
    unpacked = Blocks4(flat, _table(parts, table, 16), largest, state["blocksize"], shape[-1])
    parts.make(name, "F32", shape, unpacked)


def _vector(parts: Parts, name: str, whole: str, count: int, dtype: str = "F32") -> SourceTensor:
    found = parts.need(name, whole)
    if math.prod(found.shape) != count or found.dtype != dtype:
        raise parts.bad_shape(found, f"{count} numbers of {dtype}, one for each block of {whole}")
    return found


def _table(parts: Parts, tensor: SourceTensor, count: int) -> Floats:
    if math.prod(tensor.shape) != count:
        raise parts.bad_shape(tensor, f"a table of {count} numbers")
    return floats(parts.numbers(tensor), tensor.dtype)


def _unpack_int8(parts: Parts, largest: SourceTensor) -> None:
    module = largest.name.removesuffix(".SCB")
    weight, order = parts.need(f"{module}.weight", largest.name), parts.find(f"{module}.weight_format")
    parts.find(largest.name)
    if order is not None and parts.numbers(order).any():
        raise unsupported("bitsandbytes", f"{order.name}", parts.numbers(order).tolist())
    if weight.dtype != "I8" or len(weight.shape) != 2:
        raise parts.bad_shape(weight, "a matrix of I8")
    if math.prod(largest.shape) != weight.rows:
        raise parts.bad_shape(largest, f"a number for each row of {weight.name}, {list(weight.shape)}")
    parts.make(weight.name, "F32", weight.shape, Int8Rows(weight, largest))
