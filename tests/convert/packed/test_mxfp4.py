"""MXFP4 as gpt-oss publishes it: ggml's own blocks hold the same numbers, and a file takes them without loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.transforms import EveryOtherRow, ReadRows
from localllm.errors import BadCheckpoint
from localllm.native import quants
from tests.convert.packed.files import Array, Floats, Stored, packed_checkpoint

VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _experts(rows: int = 6, blocks: int = 3) -> tuple[Array, Array, Floats]:
    """Two experts as they are published, and their numbers one by one."""
    generator = np.random.default_rng(3)
    packed = generator.integers(0, 256, (2, rows, blocks, 16), dtype=np.uint8)
    scales = generator.integers(110, 140, (2, rows, blocks), dtype=np.uint8)
    numbers = np.empty((2, rows, blocks * 32), dtype=np.float32)
    for place in np.ndindex(numbers.shape):
        block, inside = divmod(place[-1], 32)
        expert, row = place[:2]
        byte = int(packed[expert, row, block, inside // 2])
        code = byte >> 4 if inside % 2 else byte & 15
        size = VALUES[code & 7] * 2.0 ** (int(scales[expert, row, block]) - 127)
        numbers[place] = -size if code & 8 else size
    return packed, scales, numbers


def _floats(rows: Array, count: int) -> Floats:
    numbers = np.empty(count, dtype=np.float32)
    quants.to_float32("MXFP4", np.ascontiguousarray(rows), numbers, count)
    return numbers


def test_rows_are_blocks_of_ggml(tmp_path: Path) -> None:
    packed, scales, numbers = _experts()
    tensors: Stored = {"a.down_proj_blocks": ("U8", packed), "a.down_proj_scales": ("U8", scales)}
    folder = packed_checkpoint(tmp_path, tensors, quant_method="mxfp4")
    with open_checkpoint(folder) as checkpoint:
        (tensor,) = checkpoint.tensors.values()
        assert (tensor.name, tensor.dtype, tensor.shape) == ("a.down_proj.mxfp4", "MXFP4", (2, 6, 96))
        lines = numbers.reshape(12, 96)
        for start, stop in ((0, 12), (5, 8), (11, 12)):
            rows = checkpoint.rows(tensor.name, start, stop)
            assert rows.shape == (stop - start, tensor.row_bytes)
            found = _floats(rows, rows.shape[0] * 96)
            np.testing.assert_array_equal(found.reshape(-1, 96), lines[start:stop])


def test_rows_that_take_turns_are_taken_apart_packed(tmp_path: Path) -> None:
    packed, scales, numbers = _experts()
    tensors: Stored = {"a.gate_up_proj_blocks": ("U8", packed), "a.gate_up_proj_scales": ("U8", scales)}
    with open_checkpoint(packed_checkpoint(tmp_path, tensors, quant_method="mxfp4")) as checkpoint:
        read: ReadRows = lambda _, start, stop: checkpoint.rows("a.gate_up_proj.mxfp4", start, stop)  # noqa: E731
        for first in (0, 1):
            rows = EveryOtherRow(first).rows(read, 1, 5)
            expected = numbers[:, first::2].reshape(6, 96)[1:5]
            np.testing.assert_array_equal(_floats(rows, 4 * 96).reshape(4, 96), expected)


def test_scales_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    packed, scales, _ = _experts()
    folder = packed_checkpoint(tmp_path, {"a.x_blocks": ("U8", packed)}, quant_method="mxfp4")
    with pytest.raises(BadCheckpoint, match=r"a\.x_scales is missing, without which a\.x "):
        open_checkpoint(folder)
    tensors: Stored = {"a.x_blocks": ("U8", packed), "a.x_scales": ("U8", scales[:, :, :2])}
    folder = packed_checkpoint(tmp_path, tensors, quant_method="mxfp4")
    with pytest.raises(BadCheckpoint, match=r"a\.x_scales \(U8\) has shape \[2, 6, 2\]"):
        open_checkpoint(folder)
    folder = packed_checkpoint(tmp_path, {"a.x_blocks": ("U8", packed[..., :8])}, quant_method="mxfp4")
    with pytest.raises(BadCheckpoint, match=r"a\.x_(blocks|scales)"):
        open_checkpoint(folder)
