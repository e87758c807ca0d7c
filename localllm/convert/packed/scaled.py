"""Weights stored as numbers of eight bits beside a tensor of scales: FP8 and plain int8.

A scale counts for the whole matrix, for a row, for a group of columns or for a block of rows and columns: which of
these follows from the shapes. The product is taken in float32, as llama.cpp's converter takes it.

Sources: `FP8Linear` and `FbgemmFp8Linear` of transformers; the float and int formats of compressed-tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from localllm.convert.files import Files
from localllm.convert.packed.numbers import Floats, floats
from localllm.convert.packed.parts import Parts, unsupported
from localllm.convert.tensor import SourceTensor, read_rows

FP8 = ("F8_E4M3", "F8_E5M2")

FOR_ACTIVATIONS = (
    r"[._](input|output|activation)_(global_)?(scale|zero_point)(_inv|_ub)?$"
    r"|\.(attn\.)?(q|k|v|kv|prob)_(output_)?(scale|zero_point)$"
)
"""Names of what only matters while activations or the KV cache are quantized."""


@dataclass(frozen=True)
class Grid:
    """Scales, or zero points, over the matrices of a tensor, each for a block of `block` rows and columns.

    `values` has a row for each row of blocks, matrix behind matrix; or one row for all matrices when `shared`.
    """

    values: SourceTensor
    block: tuple[int, int]
    matrix_rows: int
    shared: bool

    def held(self, files: Files, start: int, stop: int) -> Floats:
        """The values for rows `start` to `stop`, one for each group of columns."""
        matrix, row = np.divmod(np.arange(start, stop), self.matrix_rows)
        lines = row // self.block[0]
        if not self.shared:
            lines = lines + matrix * math.ceil(self.matrix_rows / self.block[0])
        first = int(lines.min())
        read = read_rows(files, self.values, first, int(lines.max()) + 1)
        found: Floats = floats(read, self.values.dtype)[lines - first]
        return found

    def rows(self, files: Files, start: int, stop: int, columns: int) -> Floats:
        """The value of each number in rows `start` to `stop`: (stop - start, columns), or 1 if it is one for a row."""
        held = self.held(files, start, stop)
        if self.values.columns == 1:
            return held
        wide: Floats = np.repeat(held, self.block[1], axis=1)[:, :columns]
        return wide


@dataclass(frozen=True)
class Scaled:
    """(weight - zero point) * scale."""

    weight: SourceTensor
    scale: Grid
    zero: Grid | None = None

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`."""
        numbers = floats(read_rows(files, self.weight, start, stop), self.weight.dtype)
        if self.zero is not None:
            numbers -= self.zero.rows(files, start, stop, self.weight.columns)
        numbers *= self.scale.rows(files, start, stop, self.weight.columns)
        return numbers


def grid(parts: Parts, values: SourceTensor, weight: tuple[int, ...], blocks: Sequence[tuple[int, int]]) -> Grid:
    """How `values` lie over a tensor of the shape `weight`; `blocks` are those that the configuration names.

    Raises:
        BadCheckpoint: they fit it in no way.
    """
    *leading, rows, columns = weight
    shape = (1,) * len(weight) if math.prod(values.shape) == 1 else values.shape
    shape += (1,) * (len(weight) - len(shape))
    *outer, lines, width = shape
    shared = math.prod(outer) == 1
    for block in (*blocks, (rows, columns)):
        heights, widths = _side(rows, lines, block[0]), _side(columns, width, block[1])
        if heights and widths and (shared or outer == leading):
            flat = replace(values, shape=(math.prod(outer) * lines, width))
            return Grid(flat, (heights, widths), rows, shared)
    raise parts.bad_shape(values, f"one of scales for a weight of shape {list(weight)}")


def _side(size: int, count: int, block: int) -> int:
    """How many of `size` rows or columns share one of `count` values; 0 when they do not fit."""
    if count == math.ceil(size / block):
        return block
    return size // count if count in (1, size) else 0


def make(
    parts: Parts,
    weight: SourceTensor,
    scale: SourceTensor,
    zero: SourceTensor | None = None,
    blocks: Sequence[tuple[int, int]] = (),
) -> None:
    """Make a plain tensor of a weight of eight bits, its scales and its zero points.

    Raises:
        BadCheckpoint: they do not fit together.
    """
    parts.find(weight.name)
    zeros = None if zero is None else grid(parts, zero, weight.shape, blocks)
    parts.make(weight.name, "F32", weight.shape, Scaled(weight, grid(parts, scale, weight.shape, blocks), zeros))


def unpack(parts: Parts, settings: Mapping[str, Any]) -> None:
    """FP8 as transformers and fbgemm write it: `X` beside `X_scale_inv` or `X_scale`.

    Raises:
        BadCheckpoint: scales are missing or do not fit.
        UnsupportedModel: a size of blocks that is none.
    """
    size = settings.get("weight_block_size")
    blocks = []
    if size is not None:
        if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)):
            raise unsupported(str(settings.get("quant_method")), "weight_block_size", size)
        blocks = [(size[0], size[1])]
    for weight in parts.stored.values():
        if weight.dtype in FP8 and len(weight.shape) > 1:
            found = next((n for n in (f"{weight.name}_scale_inv", f"{weight.name}_scale") if n in parts.stored), None)
            make(parts, weight, parts.need(found or f"{weight.name}_scale_inv", weight.name), None, blocks)
    parts.drop(FOR_ACTIVATIONS)
