"""MXFP4 as gpt-oss publishes its experts: `X_blocks` of 32 four-bit numbers and `X_scales`, a power of two for each.

ggml has the same numbers in a type of its own, so rows come in that type with no bit lost, and a file may hold them as
they are. The tensor is called `X.mxfp4`, for its rows lie the other way round than in the BF16 dialect: `X_blocks` is
(experts, outputs, inputs / 32, 16), `X` of the other dialect (experts, inputs, outputs).

Sources: `convert_moe_packed_tensors` of transformers; `block_mxfp4` of ggml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert.files import Files
from localllm.convert.packed.numbers import nibbles
from localllm.convert.packed.parts import Parts
from localllm.convert.tensor import SourceTensor, read_rows

NUMBERS, BYTES = 32, 16


@dataclass(frozen=True)
class Repacked:
    """Blocks as ggml has them: the scale, then bytes with number i in the low half and number i + 16 in the high one.

    `blocks` is (rows, bytes), `scales` (rows, blocks).
    """

    blocks: SourceTensor
    scales: SourceTensor

    def __call__(self, files: Files, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """The bytes of rows `start` to `stop`, (stop - start, blocks * 17)."""
        codes = nibbles(read_rows(files, self.blocks, start, stop)).reshape(-1, NUMBERS)
        packed = np.empty((len(codes), 1 + BYTES), dtype=np.uint8)
        packed[:, 0] = read_rows(files, self.scales, start, stop).reshape(-1)
        packed[:, 1:] = codes[:, :BYTES] | codes[:, BYTES:] << 4
        return packed.reshape(stop - start, -1)


def unpack(parts: Parts, _: Mapping[str, Any]) -> None:
    """Every `X_blocks` with its `X_scales` becomes `X.mxfp4` in ggml's own type.

    Raises:
        BadCheckpoint: the scales are missing or the shapes do not fit.
    """
    for blocks in parts.ending("_blocks"):
        whole = blocks.name.removesuffix("_blocks")
        scales = parts.need(f"{whole}_scales", whole)
        *leading, count, size = blocks.shape
        if blocks.dtype != "U8" or size != BYTES or not leading:
            raise parts.bad_shape(blocks, f"(…, blocks of a row, {BYTES}) in U8")
        if scales.dtype not in ("U8", "F8_E8M0") or scales.shape != blocks.shape[:-1]:
            raise parts.bad_shape(scales, f"{list(blocks.shape[:-1])} in U8")
        parts.find(blocks.name)
        flat = replace(blocks, shape=(blocks.rows // count, count * BYTES))
        parts.make(f"{whole}.mxfp4", "MXFP4", (*leading, count * NUMBERS), Repacked(flat, scales))
