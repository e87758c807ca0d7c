"""compressed-tensors: every format, packed here number by number, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.convert.checkpoint import open_checkpoint
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.packed.files import Array, Floats, Stored, check_rows, packed_checkpoint

ROWS, COLUMNS = 11, 40
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _settings(layout: str, **weights: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights}
    return {
        "quant_method": "compressed-tensors",
        "format": layout,
        "config_groups": {"group_0": group},
        "ignore": ["b"],
    }


def _words(numbers: Array, bits: int) -> Array:
    """Numbers along the rows, as many as fit into 32 bits, the first in the lowest."""
    held = 32 // bits
    words = np.zeros((numbers.shape[0], -(-numbers.shape[1] // held)), dtype=np.uint32)
    for row, column in np.ndindex(numbers.shape):
        words[row, column // held] |= np.uint32(int(numbers[row, column]) << bits * (column % held))
    return words.view(np.int32)


def _ints(bits: int, size: int, *, asymmetric: bool = False, order: Array | None = None) -> tuple[Stored, Floats]:
    generator = np.random.default_rng(bits)
    group = np.arange(COLUMNS) // size if order is None else order
    count = int(group.max()) + 1
    numbers = generator.integers(0, 1 << bits, (ROWS, COLUMNS))
    scales = generator.uniform(0.01, 0.1, (ROWS, count)).astype(np.float16)
    zeros = generator.integers(0, 1 << bits, (ROWS, count)) if asymmetric else np.full((ROWS, count), 1 << (bits - 1))
    weight = (numbers - zeros[:, group]).astype(np.float32) * scales[:, group].astype(np.float32)
    tensors: Stored = {
        "a.weight_packed": ("I32", _words(numbers, bits)),
        "a.weight_scale": ("F16", scales),
        "a.weight_shape": ("I64", np.array([ROWS, COLUMNS])),
    }
    if asymmetric:
        tensors["a.weight_zero_point"] = ("I32", np.ascontiguousarray(_words(zeros.T, bits).T))
    if order is not None:
        tensors["a.weight_g_idx"] = ("I32", order.astype(np.int32))
    return tensors, weight


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("size", [8, COLUMNS])
def test_packed_ints(tmp_path: Path, bits: int, asymmetric: bool, size: int) -> None:
    tensors, weight = _ints(bits, size, asymmetric=asymmetric)
    told = {"strategy": "channel"} if size == COLUMNS else {"strategy": "group", "group_size": size}
    check_rows(
        packed_checkpoint(tmp_path, tensors, **_settings("pack-quantized", num_bits=bits, type="int", **told)),
        "a.weight",
        weight,
    )


def test_packed_ints_in_the_order_of_activations(tmp_path: Path) -> None:
    order = np.random.default_rng(9).permutation(np.arange(COLUMNS) // 8)
    tensors, weight = _ints(4, 8, asymmetric=True, order=order)
    settings = _settings("pack-quantized", num_bits=4, type="int", strategy="group", group_size=8)
    check_rows(packed_checkpoint(tmp_path, tensors, **settings), "a.weight", weight)


def test_an_order_that_was_never_set(tmp_path: Path) -> None:
    tensors, weight = _ints(4, 8)
    tensors["a.weight_g_idx"] = ("I32", np.full(COLUMNS, -1, dtype=np.int32))
    settings = _settings("pack-quantized", num_bits=4, type="int", strategy="group", group_size=8)
    check_rows(packed_checkpoint(tmp_path, tensors, **settings), "a.weight", weight)


def test_groups_of_layers_with_bits_of_their_own(tmp_path: Path) -> None:
    tensors, weight = _ints(8, 8)
    settings = _settings("pack-quantized", num_bits=4, type="int", strategy="group", group_size=20)
    other = {"targets": ["re:.*a"], "weights": {"num_bits": 8, "type": "int", "strategy": "group", "group_size": 8}}
    settings["config_groups"]["group_1"] = other
    check_rows(packed_checkpoint(tmp_path, tensors, **settings), "a.weight", weight)


@pytest.mark.parametrize("layout", ["int-quantized", "naive-quantized"])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_int8_by_row_and_by_group(tmp_path: Path, layout: str, count: int, asymmetric: bool) -> None:
    generator = np.random.default_rng(count)
    numbers = generator.integers(-128, 128, (ROWS, COLUMNS)).astype(np.int8)
    scales = generator.uniform(0.01, 0.1, (ROWS, count)).astype(np.float32)
    zeros = generator.integers(-9, 9, (ROWS, count)).astype(np.int8) if asymmetric else np.zeros((ROWS, count), np.int8)
    tensors: Stored = {"a.weight": ("I8", numbers), "a.weight_scale": ("F32", scales)}
    if asymmetric:
        tensors["a.weight_zero_point"] = ("I8", zeros)
    tensors |= {"a.input_scale": ("F32", scales[:1]), "a.input_zero_point": ("I8", zeros[:1])}
    repeats = COLUMNS // count
    difference = numbers.astype(np.float32) - np.repeat(zeros, repeats, axis=1).astype(np.float32)
    weight = difference * np.repeat(scales, repeats, axis=1)
    settings = _settings(layout, num_bits=8, type="int", strategy="group", group_size=repeats)
    check_rows(packed_checkpoint(tmp_path, tensors, **settings), "a.weight", weight)


@pytest.mark.parametrize(("told", "block"), [("4x16", (4, 16)), ([4, 16], (4, 16)), (None, (ROWS, COLUMNS))])
def test_fp8_by_block_and_by_tensor(tmp_path: Path, told: object, block: tuple[int, int]) -> None:
    halves = np.random.default_rng(1).normal(size=(ROWS, COLUMNS)).astype(np.float16).view(np.uint16)
    codes = (halves >> 8).astype(np.uint8)
    numbers = (codes.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    shape = (-(-ROWS // block[0]), -(-COLUMNS // block[1]))
    scales = np.random.default_rng(2).uniform(0.5, 2, shape).astype(np.float32)
    spread = np.repeat(np.repeat(scales, block[0], 0), block[1], 1)[:ROWS, :COLUMNS]
    tensors: Stored = {"a.weight": ("F8_E5M2", codes), "a.weight_scale": ("F32", scales), "a.k_scale": ("F32", scales)}
    settings = _settings("float-quantized", num_bits=8, type="float", strategy="block", block_structure=told)
    check_rows(packed_checkpoint(tmp_path, tensors, **settings), "a.weight", numbers * spread)


def _fp4() -> tuple[Array, Floats]:
    codes = np.random.default_rng(1).integers(0, 16, (ROWS, 64))
    numbers = np.array([-FP4[code & 7] if code & 8 else FP4[code] for code in codes.flat], dtype=np.float32)
    return (codes[:, ::2] + 16 * codes[:, 1::2]).astype(np.uint8), numbers.reshape(ROWS, 64)


def test_nvfp4(tmp_path: Path) -> None:
    packed, numbers = _fp4()
    powers = np.random.default_rng(2).integers(1, 15, (ROWS, 4))
    whole = np.array([3.0], dtype=np.float32)
    scales = (2.0 ** (powers - 7)).astype(np.float32) / whole
    tensors: Stored = {
        "a.weight_packed": ("U8", packed),
        "a.weight_scale": ("F8_E4M3", (powers << 3).astype(np.uint8)),
        "a.weight_global_scale": ("F32", whole),
        "a.input_global_scale": ("F32", whole),
    }
    settings = _settings("nvfp4-pack-quantized", num_bits=4, type="float", strategy="tensor_group", group_size=16)
    check_rows(packed_checkpoint(tmp_path, tensors, **settings), "a.weight", numbers * np.repeat(scales, 16, 1))
    del tensors["a.weight_global_scale"]
    with pytest.raises(BadCheckpoint, match=r"a\.weight_global_scale is missing, without which a\.weight"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, **settings))


def test_mxfp4(tmp_path: Path) -> None:
    packed, numbers = _fp4()
    powers = np.random.default_rng(2).integers(110, 140, (ROWS, 2)).astype(np.uint8)
    tensors: Stored = {"a.weight_packed": ("U8", packed), "a.weight_scale": ("U8", powers)}
    settings = _settings("mxfp4-pack-quantized", num_bits=4, type="float", strategy="group", group_size=32)
    scales = np.repeat(2.0 ** (powers.astype(np.float64) - 127), 32, 1).astype(np.float32)
    check_rows(packed_checkpoint(tmp_path, tensors, **settings), "a.weight", numbers * scales)


@pytest.mark.parametrize("part", ["weight_scale", "weight_shape"])
def test_a_part_that_is_missing_is_named(tmp_path: Path, part: str) -> None:
    tensors, _ = _ints(4, 8)
    del tensors[f"a.{part}"]
    settings = _settings("pack-quantized", num_bits=4, type="int", strategy="group", group_size=8)
    with pytest.raises(BadCheckpoint, match=rf"a\.{part} is missing, without which a\.weight"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, **settings))


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("weight_packed", ("I32", np.zeros((ROWS, 4), dtype=np.int32))),
        ("weight_scale", ("F16", np.zeros((ROWS, 7), dtype=np.float16))),
        ("weight_zero_point", ("I8", np.zeros((ROWS, 5), dtype=np.int8))),
        ("weight_g_idx", ("I32", np.zeros(COLUMNS - 1, dtype=np.int32))),
        ("weight_shape", ("I64", np.array([ROWS, COLUMNS, 1]))),
    ],
)
def test_a_part_that_does_not_fit_is_named(tmp_path: Path, part: str, tensor: tuple[str, Array]) -> None:
    tensors, _ = _ints(4, 8)
    settings = _settings("pack-quantized", num_bits=4, type="int", strategy="group", group_size=8)
    with pytest.raises(BadCheckpoint, match=rf"a\.{part} \(\w+\) has shape"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors | {f"a.{part}": tensor}, **settings))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "marlin-24"}, "format 'marlin-24'"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparsity format 'sparse-24-bitmask'"),
        ({"transform_config": {"config_groups": {"u": {}}}}, "transform_config"),
        ({"config_groups": None}, "config_groups None"),
        ({"config_groups": {"g": {"weights": {"num_bits": 3}}}}, r"num_bits \['3'\]"),
        ({"config_groups": {"g": {"weights": {"num_bits": 4, "group_size": 0}}}}, "group_size"),
    ],
)
def test_settings_that_are_not_known_are_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    tensors, _ = _ints(4, 8)
    settings = _settings("pack-quantized", num_bits=4, type="int", strategy="group", group_size=8) | changes
    with pytest.raises(UnsupportedModel, match=says):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, **settings))
