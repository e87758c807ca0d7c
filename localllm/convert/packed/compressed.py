"""compressed-tensors: whole numbers packed into words, numbers of eight bits, and four-bit floats.

How a layer is packed is seen from its tensors; the configuration says how many bits a packed number has and how large
groups and blocks are. Layers of different groups may differ.

Sources: the compressors of compressed-tensors; `dequant_packed` of llama.cpp's converter for the order of operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from localllm.convert.files import Files
from localllm.convert.packed import scaled, words
from localllm.convert.packed.numbers import E2M1, Floats, floats, nibbles
from localllm.convert.packed.parts import Parts, unsupported
from localllm.convert.packed.scaled import Grid
from localllm.convert.tensor import SourceTensor, read_rows
from localllm.errors import BadCheckpoint

FORMATS = (
    "dense",
    "float-quantized",
    "int-quantized",
    "mixed-precision",
    "mxfp4-pack-quantized",
    "mxfp8-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "pack-quantized",
)
_METHOD = "compressed-tensors"


@dataclass(frozen=True)
class Ints:
    """Whole numbers of `bits` in words, less half their range or a zero point, times a scale for a group of columns.

    `zeros` are packed down the rows. `order` names the group of each column.
    """

    packed: SourceTensor
    scale: Grid
    columns: int
    bits: int
    zeros: SourceTensor | None
    order: SourceTensor | None

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`."""
        numbers = words.padded(read_rows(files, self.packed, start, stop), self.bits)[:, : self.columns]
        found = numbers.astype(np.float32)
        group = np.arange(self.columns) // self.scale.block[1]
        if self.order is not None:
            group = read_rows(files, self.order, 0, self.columns).reshape(-1)
            if group.min() < 0 or group.max() >= self.scale.values.columns:
                raise BadCheckpoint(f"{files.title}: {self.order.name} names a group that there is not.")
        if self.zeros is None:
            found -= 1 << (self.bits - 1)
        else:
            held = 32 // self.bits
            first, last = start // held, math.ceil(stop / held)
            zeros = words.down(read_rows(files, self.zeros, first, last), self.bits)
            found -= zeros[start - first * held : stop - first * held, group]
        found *= self.scale.held(files, start, stop)[:, group]
        return found


@dataclass(frozen=True)
class Floats4:
    """Numbers of E2M1, two in a byte, times a scale for a group of columns, over `whole` for all of them."""

    packed: SourceTensor
    scale: Grid
    whole: SourceTensor | None

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`."""
        numbers: Floats = E2M1[nibbles(read_rows(files, self.packed, start, stop))]
        scales = self.scale.rows(files, start, stop, numbers.shape[1])
        if self.whole is not None:
            scales = scales / floats(read_rows(files, self.whole, 0, 1), self.whole.dtype)
        numbers *= scales
        return numbers


def unpack(parts: Parts, settings: Mapping[str, Any]) -> None:
    """Every layer that has `weight_packed`, or a `weight` of eight bits.

    Raises:
        BadCheckpoint: a tensor is missing or does not fit the others.
        UnsupportedModel: a format, a number of bits or a transform of activations that is not known.
    """
    weights = _weights(settings)
    blocks = [block for block in map(_block, weights) if block is not None]
    for packed in parts.ending(".weight_packed"):
        name = packed.name.removesuffix("_packed")
        scale = parts.need(f"{name}_scale", name)
        parts.find(packed.name)
        if packed.dtype == "I32":
            bits = {args.get("num_bits") for args in weights}
            _unpack_ints(parts, name, packed, scale, bits, blocks)
        else:
            _unpack_floats4(parts, name, packed, scale)
    for weight in parts.stored.values():
        if weight.dtype in ("I8", *scaled.FP8) and weight.name.endswith("weight"):
            scale = parts.need(f"{weight.name}_scale", weight.name)
            if scale.dtype == "U8":
                scale = replace(scale, dtype="F8_E8M0")
            scaled.make(parts, weight, scale, parts.find(f"{weight.name}_zero_point"), blocks)
    parts.drop(scaled.FOR_ACTIVATIONS)


def _weights(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the configuration says of weights, group by group."""
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise unsupported(_METHOD, "config_groups", groups)
    for layout in (settings.get("format"), *(group.get("format") for group in groups.values())):
        if layout is not None and layout not in FORMATS:
            raise unsupported(_METHOD, "format", layout)
    sparsity = settings.get("sparsity_config") or {}
    if sparsity and sparsity.get("format") not in (None, "dense"):
        raise unsupported(_METHOD, "sparsity format", sparsity.get("format"))
    if settings.get("transform_config"):
        raise unsupported(_METHOD, "transform_config", settings["transform_config"])
    return [args for group in groups.values() if isinstance(args := group.get("weights"), dict)]


def _block(args: Mapping[str, Any]) -> tuple[int, int] | None:
    """The rows and columns that share a scale, where the configuration says it."""
    shape = args.get("block_structure")
    if isinstance(shape, str):
        shape = [int(side) if side.isdecimal() else 0 for side in shape.split("x")]
    if shape is None and args.get("group_size") not in (None, -1):
        shape = [1, args["group_size"]]
    if shape is None:
        return None
    if not (isinstance(shape, list) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise unsupported(_METHOD, "group_size or block_structure", shape)
    return shape[0], shape[1]


def _unpack_ints(
    parts: Parts, name: str, packed: SourceTensor, scale: SourceTensor, bits: set[Any], blocks: list[tuple[int, int]]
) -> None:
    lengths = parts.need(f"{name}_shape", name)
    if lengths.dtype not in ("I64", "I32") or len(packed.shape) < 2 or math.prod(lengths.shape) != len(packed.shape):
        raise parts.bad_shape(lengths, f"the shape of {name}")
    shape = tuple(int(side) for side in parts.numbers(lengths))
    fitting = [n for n in bits if n in (2, 4, 8) and packed.shape == (*shape[:-1], math.ceil(shape[-1] * n / 32))]
    if len(fitting) != 1:
        if not bits <= {2, 4, 8}:
            raise unsupported(_METHOD, "num_bits", sorted(map(str, bits)))
        raise parts.bad_shape(packed, f"numbers of {sorted(bits)} bits for a weight of shape {list(shape)}")
    over = scaled.grid(parts, scale, shape, blocks)
    zeros, order = parts.find(f"{name}_zero_point"), parts.find(f"{name}_g_idx")
    wanted = (math.ceil(shape[0] * fitting[0] / 32), over.values.columns)
    if zeros is not None and (zeros.dtype != "I32" or zeros.shape != wanted or len(shape) != 2):
        raise parts.bad_shape(zeros, f"{list(wanted)} in I32")
    if order is not None:
        if order.dtype not in ("I64", "I32") or order.shape != shape[-1:]:
            raise parts.bad_shape(order, f"a number for each of {shape[-1]} columns")
        if (parts.numbers(order) == -1).all():
            order = None  # compressed-tensors' way to say that columns are in their usual order
    parts.make(name, "F32", shape, Ints(packed, over, shape[-1], fitting[0], zeros, order))


def _unpack_floats4(parts: Parts, name: str, packed: SourceTensor, scale: SourceTensor) -> None:
    whole = None
    if scale.dtype in ("U8", "F8_E8M0"):
        scale, size = replace(scale, dtype="F8_E8M0"), 32
    else:
        whole, size = parts.need(f"{name}_global_scale", name), 16
    shape = (*packed.shape[:-1], packed.shape[-1] * 2)
    if packed.dtype != "U8" or len(shape) != 2 or (whole is not None and math.prod(whole.shape) != 1):
        raise parts.bad_shape(packed, "a matrix of bytes with one scale over all")
    parts.make(name, "F32", shape, Floats4(packed, scaled.grid(parts, scale, shape, [(1, size)]), whole))
