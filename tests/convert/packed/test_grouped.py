"""GPTQ and AWQ: packed here number by number as the formats define it, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.convert.checkpoint import open_checkpoint
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.helpers import MakeTiny
from tests.convert.packed.files import Array, Floats, Stored, check_files, check_rows, packed_checkpoint


def _stream(numbers: list[int], bits: int) -> list[int]:
    """Numbers as one long whole number, the first in its lowest bits, cut into words of 32."""
    whole = sum(number << bits * place for place, number in enumerate(numbers))
    return [whole >> 32 * word & 0xFFFFFFFF for word in range(-(-len(numbers) * bits // 32))]


def _down(numbers: Array, bits: int) -> Array:
    return np.ascontiguousarray(_across(numbers.T, bits).T)


def _across(numbers: Array, bits: int) -> Array:
    words: Array = np.array([_stream([int(n) for n in row], bits) for row in numbers], dtype=np.uint32)
    return words.view(np.int32)


def _awq(numbers: Array) -> Array:
    """Outputs 0, 2, 4, 6, 1, 3, 5, 7 of each eight, from the lowest bits on."""
    blocks = numbers.reshape(numbers.shape[0], -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]]
    return _across(blocks.reshape(numbers.shape), 4)


def _layer(bits: int, inputs: int, outputs: int, groups: Array, seed: int = 1) -> tuple[Array, Array, Array, Floats]:
    """Random numbers (inputs, outputs), zero points and scales (groups, outputs), and the weight (outputs, inputs)."""
    generator = np.random.default_rng(seed)
    count = int(groups.max()) + 1
    numbers = generator.integers(0, 1 << bits, (inputs, outputs))
    zeros = generator.integers(1, 1 << bits, (count, outputs))
    scales = generator.uniform(0.001, 0.1, (count, outputs)).astype(np.float16)
    weight = np.empty((outputs, inputs), dtype=np.float32)
    for row, column in np.ndindex(weight.shape):
        group = groups[column]
        weight[row, column] = np.float32(scales[group, row]) * np.float32(numbers[column, row] - zeros[group, row])
    return numbers, zeros, scales, weight


def _gptq(bits: int, numbers: Array, zeros: Array, scales: Array, order: Array | None, offset: int = 1) -> Stored:
    tensors: Stored = {
        "a.qweight": ("I32", _down(numbers, bits)),
        "a.qzeros": ("I32", _across(zeros - offset, bits)),
        "a.scales": ("F16", scales),
    }
    return tensors if order is None else {**tensors, "a.g_idx": ("I32", order.astype(np.int32))}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("acts", [False, True])
def test_gptq_of_any_bits_and_order(tmp_path: Path, bits: int, acts: bool) -> None:
    groups = np.arange(64) // 16
    if acts:
        groups = np.random.default_rng(5).permutation(groups)
    numbers, zeros, scales, weight = _layer(bits, 64, 96, groups)
    folder = packed_checkpoint(
        tmp_path,
        _gptq(bits, numbers, zeros, scales, groups),
        quant_method="gptq",
        bits=bits,
        group_size=16,
        desc_act=acts,
    )
    check_rows(folder, "a.weight", weight)


def test_gptq_without_an_order_and_with_one_group(tmp_path: Path) -> None:
    numbers, zeros, scales, weight = _layer(4, 32, 40, np.zeros(32, dtype=int))
    tensors = _gptq(4, numbers, zeros, scales, None)
    check_rows(packed_checkpoint(tmp_path, tensors, quant_method="gptq", bits=4, group_size=-1), "a.weight", weight)


def test_the_second_format_has_zero_points_as_they_are(tmp_path: Path) -> None:
    numbers, zeros, scales, weight = _layer(4, 32, 40, np.arange(32) // 8)
    folder = packed_checkpoint(
        tmp_path,
        _gptq(4, numbers, zeros, scales, None, offset=0),
        quant_method="gptq",
        bits=4,
        group_size=8,
        checkpoint_format="gptq_v2",
    )
    check_rows(folder, "a.weight", weight)


def test_a_zero_point_that_wrapped_round_is_one_more_than_fits(tmp_path: Path) -> None:
    numbers, zeros, scales, _ = _layer(4, 16, 32, np.zeros(16, dtype=int))
    tensors = _gptq(4, numbers, np.full_like(zeros, 16), scales, None)
    folder = packed_checkpoint(tmp_path, tensors, quant_method="gptq", bits=4, group_size=-1)
    weight = scales.astype(np.float32) * (numbers - 16).astype(np.float32)
    check_rows(folder, "a.weight", np.ascontiguousarray(weight.T))


def test_layers_with_bits_of_their_own(tmp_path: Path) -> None:
    groups = np.arange(32) // 16
    numbers, zeros, scales, weight = _layer(8, 32, 32, groups)
    folder = packed_checkpoint(
        tmp_path,
        _gptq(8, numbers, zeros, scales, groups),
        quant_method="gptq",
        bits=4,
        group_size=16,
        dynamic={"+:a": {"bits": 8}},
    )
    check_rows(folder, "a.weight", weight)


def test_older_checkpoints_say_it_in_a_file_of_its_own(tmp_path: Path) -> None:
    groups = np.arange(32) // 16
    numbers, zeros, scales, weight = _layer(4, 32, 32, groups)
    folder = packed_checkpoint(tmp_path, _gptq(4, numbers, zeros, scales, groups))
    (folder / "quantize_config.json").write_text('{"bits": 4, "group_size": 16, "desc_act": false}')
    check_rows(folder, "a.weight", weight)


@pytest.mark.parametrize("part", ["qzeros", "scales"])
def test_a_part_of_a_layer_that_is_missing_is_named(tmp_path: Path, part: str) -> None:
    tensors = _gptq(4, *_layer(4, 32, 32, np.zeros(32, dtype=int))[:3], None)
    del tensors[f"a.{part}"]
    folder = packed_checkpoint(tmp_path, tensors, quant_method="gptq", bits=4, group_size=-1)
    with pytest.raises(BadCheckpoint, match=rf"a\.{part} is missing, without which a\.weight"):
        open_checkpoint(folder)


def test_shapes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    tensors = _gptq(4, *_layer(4, 32, 32, np.zeros(32, dtype=int))[:3], None)
    folder = packed_checkpoint(tmp_path, tensors, quant_method="gptq", bits=4, group_size=16)
    with pytest.raises(BadCheckpoint, match=r"a\.scales \(F16\) has shape \[1, 32\], which is not \[2, 32\]"):
        open_checkpoint(folder)


def test_a_group_that_there_is_not_is_named(tmp_path: Path) -> None:
    groups = np.arange(32) // 16
    tensors = _gptq(4, *_layer(4, 32, 32, groups)[:3], groups + 1)
    folder = packed_checkpoint(tmp_path, tensors, quant_method="gptq", bits=4, group_size=16)
    with open_checkpoint(folder) as checkpoint, pytest.raises(BadCheckpoint, match=r"a\.g_idx names a group"):
        checkpoint.rows("a.weight", 0, 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"quant_method": "gptq", "bits": 5, "group_size": 16}, "bits 5"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 0}, "group_size 0"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "checkpoint_format 'marlin'"),
        ({"quant_method": "awq", "bits": 8, "group_size": 16}, "bits 8"),
        ({"quant_method": "awq", "bits": 4, "version": "marlin"}, "version 'marlin'"),
    ],
)
def test_settings_that_are_not_known_are_named(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    tensors = _gptq(4, *_layer(4, 32, 32, np.zeros(32, dtype=int))[:3], None)
    with pytest.raises(UnsupportedModel, match=says):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, **settings))


@pytest.mark.parametrize("version", ["gemm", "GEMM", None])
def test_awq_as_gemm(tmp_path: Path, version: str | None) -> None:
    numbers, zeros, scales, weight = _layer(4, 48, 40, np.arange(48) // 16)
    tensors: Stored = {"a.qweight": ("I32", _awq(numbers)), "a.qzeros": ("I32", _awq(zeros))}
    tensors["a.scales"] = ("F16", scales)
    settings = {"bits": 4, "group_size": 16} | ({"version": version} if version else {})
    check_rows(packed_checkpoint(tmp_path, tensors, quant_method="awq", **settings), "a.weight", weight)


def test_awq_as_gemv(tmp_path: Path) -> None:
    numbers, zeros, scales, weight = _layer(4, 48, 40, np.arange(48) // 16)
    padding = np.zeros((40, 5), dtype=zeros.dtype)
    tensors: Stored = {
        "a.qweight": ("I32", _across(numbers.T, 4)),
        "a.qzeros": ("I32", _across(np.hstack([zeros.T, padding]), 4)),
        "a.scales": ("F16", np.hstack([scales.T, padding.astype(np.float16)])),
    }
    settings = {"bits": 4, "group_size": 16, "version": "gemv"}
    check_rows(packed_checkpoint(tmp_path, tensors, quant_method="awq", **settings), "a.weight", weight)


@pytest.mark.slow
def test_a_file_is_that_of_the_weights_that_gptq_makes(tiny: MakeTiny) -> None:
    def pack(name: str, numbers: Floats) -> tuple[Stored, Floats]:
        outputs, inputs = numbers.shape
        groups = np.arange(inputs) // 128
        codes, zeros, scales, weight = _layer(4, inputs, outputs, groups, seed=len(name))
        module = name.removesuffix("weight")
        parts = _gptq(4, codes, zeros, scales, groups)
        return {module + part.removeprefix("a."): tensor for part, tensor in parts.items()}, weight

    sizes = {"layers": 1, "hidden": 256, "ffn": 256, "dtype": "f16"}
    packed, plain = tiny("packed", **sizes), tiny("plain", **sizes)
    check_files(packed, plain, pack, quant_method="gptq", bits=4, group_size=128)
