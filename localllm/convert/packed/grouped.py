"""GPTQ and AWQ: small whole numbers, and a scale and a zero point for each output of each group of inputs.

A weight is scale * (number - zero point), the product in float32 as llama.cpp's converter takes it for GPTQ. GPTQ and
AWQ's GEMM layout store inputs as rows, so that a row of the weight, an output, is a column of what is stored; only the
columns that are asked for are read.

Sources: `dequantize_weight` of GPTQModel's linear layers; `WQLinear_GEMM` and `WQLinear_GEMV` of AutoAWQ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from localllm.convert.files import Files
from localllm.convert.packed import words
from localllm.convert.packed.numbers import Floats, floats
from localllm.convert.packed.parts import Parts, unsupported
from localllm.convert.tensor import Rows, SourceTensor, read_columns, read_rows
from localllm.errors import BadCheckpoint

_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where in a word AWQ's GEMM layout puts each of eight outputs."""


@dataclass(frozen=True)
class Grouped:
    """The three tensors of a linear layer, and how inputs fall into groups: by `order`, or each `size` of them."""

    numbers: SourceTensor
    zeros: SourceTensor
    scales: SourceTensor
    size: int
    order: SourceTensor | None = None

    def groups(self, files: Files, inputs: int) -> Rows:
        """The group of each input."""
        if self.order is None:
            return np.arange(inputs) // self.size
        found = read_rows(files, self.order, 0, self.order.rows).reshape(-1)
        if found.min(initial=0) < 0 or found.max(initial=0) >= self.scales.rows:
            raise BadCheckpoint(
                f"{files.title}: {self.order.name} names a group that is not one of the {self.scales.rows} there are."
            )
        return found


@dataclass(frozen=True)
class Gptq(Grouped):
    """GPTQ: numbers (inputs * bits / 32, outputs), zero points (groups, outputs * bits / 32), scales (groups, outputs).

    Zero points are stored less `offset`.
    """

    bits: int = 4
    offset: int = 1

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop` of the weight."""
        numbers = words.down(read_columns(files, self.numbers, start, stop), self.bits)
        first, last = start // 32, math.ceil(stop / 32)
        held = read_columns(files, self.zeros, first * self.bits, min(last * self.bits, self.zeros.columns))
        zeros = words.across(held, self.bits)[:, start - first * 32 : stop - first * 32].astype(np.float32)
        zeros += self.offset
        scales = floats(read_columns(files, self.scales, start, stop), self.scales.dtype)
        return _product(numbers, zeros, scales, self.groups(files, len(numbers)))


@dataclass(frozen=True)
class AwqGemm(Grouped):
    """AWQ's GEMM: numbers (inputs, outputs / 8), zero points (groups, outputs / 8), scales (groups, outputs)."""

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop` of the weight."""
        first, last = start // 8, math.ceil(stop / 8)
        wanted = slice(start - first * 8, stop - first * 8)
        numbers = _awq_order(read_columns(files, self.numbers, first, last))[:, wanted]
        zeros = _awq_order(read_columns(files, self.zeros, first, last))[:, wanted].astype(np.float32)
        scales = floats(read_columns(files, self.scales, start, stop), self.scales.dtype)
        return _product(numbers, zeros, scales, self.groups(files, len(numbers)))


@dataclass(frozen=True)
class AwqGemv(Grouped):
    """AWQ's GEMV: a row for each output; numbers (outputs, inputs / 8), zero points and scales padded on the right."""

    def __call__(self, files: Files, start: int, stop: int) -> Floats:
        """Rows `start` to `stop` of the weight."""
        numbers = words.across(read_rows(files, self.numbers, start, stop), 4)
        groups = self.groups(files, numbers.shape[1])
        zeros = words.across(read_rows(files, self.zeros, start, stop), 4)[:, groups]
        scales: Floats = floats(read_rows(files, self.scales, start, stop), self.scales.dtype)[:, groups]
        scales *= numbers.astype(np.float32) - zeros
        return scales


def _product(numbers: words.Small, zeros: Floats, scales: Floats, groups: Rows) -> Floats:
    """Numbers (inputs, outputs) as rows of the weight, (outputs, inputs)."""
    found = numbers.astype(np.float32)
    found -= zeros[groups]
    found *= scales[groups]
    return np.ascontiguousarray(found.T)


def _awq_order(packed: Rows) -> words.Small:
    """(n, words) as (n, words * 8)."""
    return words.padded(packed, 4).reshape(-1, 8)[:, _AWQ_PLACES].reshape(packed.shape[0], -1)


def _layer(parts: Parts, numbers: SourceTensor) -> tuple[str, SourceTensor, SourceTensor]:
    """The weight's name, its zero points and its scales; all taken."""
    module = numbers.name.removesuffix(".qweight")
    zeros, scales = (parts.need(f"{module}.{part}", f"{module}.weight") for part in ("qzeros", "scales"))
    parts.find(numbers.name)
    for tensor in (numbers, zeros, scales):
        if len(tensor.shape) != 2 or (tensor.dtype != "I32" and tensor is not scales):
            raise parts.bad_shape(tensor, "a matrix of 32-bit words" if tensor is not scales else "a matrix")
    return f"{module}.weight", zeros, scales


def unpack_gptq(parts: Parts, settings: Mapping[str, Any]) -> None:
    """GPTQ, of any order of activations, in its first format and in the second, whose zero points are as they are.

    Raises:
        BadCheckpoint: a tensor is missing or does not fit the others.
        UnsupportedModel: a number of bits or a format that is not known.
    """
    layout = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    if layout not in ("gptq", "gptq_v2") or settings.get("is_marlin_format"):
        raise unsupported("gptq", "checkpoint_format", "marlin" if settings.get("is_marlin_format") else layout)
    for numbers in parts.ending(".qweight"):
        name, zeros, scales = _layer(parts, numbers)
        order = parts.find(f"{name.removesuffix('.weight')}.g_idx")
        bits = _gptq_bits(parts, settings, numbers, order)
        inputs, outputs = numbers.rows * 32 // bits, numbers.columns
        size = _group_size("gptq", settings, inputs)
        count = scales.rows if order is not None else math.ceil(inputs / size)
        for tensor, shape in ((scales, (count, outputs)), (zeros, (count, outputs * bits // 32))):
            if tensor.shape != shape:
                raise parts.bad_shape(tensor, f"{list(shape)} for a weight of shape {[outputs, inputs]}")
        offset = 1 if layout == "gptq" else 0
        parts.make(name, "F32", (outputs, inputs), Gptq(numbers, zeros, scales, size, order, bits, offset))


def _gptq_bits(parts: Parts, settings: Mapping[str, Any], numbers: SourceTensor, order: SourceTensor | None) -> int:
    """The bits of a number. GPTQModel may give a layer other bits than the rest: there the shapes say it."""
    bits = settings.get("bits")
    if settings.get("dynamic") and order is not None:
        bits = numbers.rows * 32 / max(order.rows, 1)
    if bits not in (2, 3, 4, 8):
        raise unsupported("gptq", "bits", bits)
    if order is not None and (numbers.rows * 32 != order.rows * bits or order.dtype not in ("I32", "I64")):
        raise parts.bad_shape(order, f"a number for each of the inputs of {numbers.name}, {list(numbers.shape)}")
    return int(bits)


def _group_size(method: str, settings: Mapping[str, Any], inputs: int) -> int:
    size = settings.get("group_size", settings.get("q_group_size"))
    if not isinstance(size, int) or isinstance(size, bool) or not (size > 0 or size == -1):
        raise unsupported(method, "group_size", size)
    return inputs if size == -1 else size


def unpack_awq(parts: Parts, settings: Mapping[str, Any]) -> None:
    """AWQ in four bits, in its GEMM and GEMV layouts.

    Raises:
        BadCheckpoint: a tensor is missing or does not fit the others.
        UnsupportedModel: a number of bits or a layout that is not known.
    """
    layout, bits = str(settings.get("version", "gemm")).lower(), settings.get("bits", settings.get("w_bit"))
    if bits != 4:
        raise unsupported("awq", "bits", bits)
    if layout not in ("gemm", "gemv"):
        raise unsupported("awq", "version", layout)
    for numbers in parts.ending(".qweight"):
        name, zeros, scales = _layer(parts, numbers)
        if layout == "gemv":
            outputs, inputs = numbers.rows, numbers.columns * 8
        else:
            outputs, inputs = numbers.columns * 8, numbers.rows
        size = _group_size("awq", settings, inputs)
        count = math.ceil(inputs / size)
        if layout == "gemv":
            fits = scales.rows == zeros.rows == outputs and count <= min(scales.columns, zeros.columns * 8)
        else:
            fits = scales.shape == (count, outputs) and zeros.shape == (count, numbers.columns)
        if not fits:
            raise parts.bad_shape(
                scales, f"one of scales for a weight of shape {[outputs, inputs]}, nor its zero points"
            )
        kind = AwqGemv if layout == "gemv" else AwqGemm
        parts.make(name, "F32", (outputs, inputs), kind(numbers, zeros, scales, size))
