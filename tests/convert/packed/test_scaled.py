"""FP8 beside scales, of every layout: the numbers by their definition, written here a second time."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.plan import half_type
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.helpers import MakeTiny
from tests.convert.packed.files import Array, Floats, Stored, check_files, check_rows, packed_checkpoint


def _e4m3(byte: int) -> float:
    sign, exponent, fraction = byte >> 7, byte >> 3 & 15, byte & 7
    size = (fraction / 8) * 2.0**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
    return -size if sign else size


def _e5m2(byte: int) -> float:
    sign, exponent, fraction = byte >> 7, byte >> 2 & 31, byte & 3
    size = (fraction / 4) * 2.0**-14 if exponent == 0 else (1 + fraction / 4) * 2.0 ** (exponent - 15)
    return -size if sign else size


NUMBERS = {"F8_E4M3": _e4m3, "F8_E5M2": _e5m2}


def _codes(dtype: str, shape: tuple[int, ...], seed: int = 1) -> tuple[Array, Floats]:
    """Random bytes that are numbers, and the numbers."""
    finite = [n for n in range(256) if (n & 127 != 127 if dtype == "F8_E4M3" else n >> 2 & 31 != 31)]
    codes = np.random.default_rng(seed).choice(finite, shape).astype(np.uint8)
    return codes, np.array([NUMBERS[dtype](int(code)) for code in codes.flat], dtype=np.float32).reshape(shape)


def _scales(shape: tuple[int, ...]) -> Floats:
    return np.random.default_rng(2).uniform(0.001, 0.1, shape).astype(np.float32)


def _spread(scales: Floats, shape: tuple[int, ...], block: tuple[int, int]) -> Floats:
    """The scale of each number, looked up one by one."""
    found = np.empty(shape, dtype=np.float32)
    for place in np.ndindex(shape):
        corner = (*place[:-2], place[-2] // block[0], place[-1] // block[1])
        found[place] = scales[corner]
    return found


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
@pytest.mark.parametrize("name", ["weight_scale_inv", "weight_scale"])
def test_blocks_that_do_not_divide_the_matrix(tmp_path: Path, dtype: str, name: str) -> None:
    codes, numbers = _codes(dtype, (37, 50))
    scales = _scales((math.ceil(37 / 16), math.ceil(50 / 8)))
    folder = packed_checkpoint(
        tmp_path,
        {f"a.{name}": ("F32", scales), "a.weight": (dtype, codes), "a.input_scale": ("F32", _scales((1,)))},
        quant_method="fp8",
        weight_block_size=[16, 8],
        activation_scheme="static",
    )
    check_rows(folder, "a.weight", numbers * _spread(scales, (37, 50), (16, 8)))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (24,), (24, 1)])
@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8"])
def test_one_scale_and_one_for_each_row(tmp_path: Path, shape: tuple[int, ...], method: str) -> None:
    codes, numbers = _codes("F8_E4M3", (24, 16))
    scales = _scales(shape)
    tensors: Stored = {"a.weight": ("F8_E4M3", codes), "a.weight_scale": ("F32", scales)}
    tensors["a.input_scale_ub"] = ("F32", _scales((1,)))
    folder = packed_checkpoint(tmp_path, tensors, quant_method=method)
    check_rows(folder, "a.weight", numbers * scales.reshape(-1, 1))


@pytest.mark.parametrize(("scale", "block"), [((3, 3, 2), (8, 8)), ((3, 1, 16), (24, 1)), ((3, 1, 1), (24, 16))])
def test_stacked_experts(tmp_path: Path, scale: tuple[int, ...], block: tuple[int, int]) -> None:
    codes, numbers = _codes("F8_E4M3", (3, 24, 16))
    scales = _scales(scale)
    folder = packed_checkpoint(
        tmp_path,
        {"a.gate_up_proj": ("F8_E4M3", codes), "a.gate_up_proj_scale_inv": ("F32", scales)},
        quant_method="fp8",
        weight_block_size=[8, 8],
    )
    check_rows(folder, "a.gate_up_proj", numbers * _spread(scales, (3, 24, 16), block))


def test_scales_in_other_types(tmp_path: Path) -> None:
    codes, numbers = _codes("F8_E4M3", (4, 8))
    powers = np.array([[120], [127], [130], [0]], dtype=np.uint8)
    folder = packed_checkpoint(
        tmp_path, {"a.weight": ("F8_E4M3", codes), "a.weight_scale_inv": ("F8_E8M0", powers)}, quant_method="fp8"
    )
    check_rows(folder, "a.weight", numbers * np.array([[2**-7], [1], [8], [2.0**-127]], dtype=np.float32))


def test_a_scale_that_is_missing_is_named(tmp_path: Path) -> None:
    codes, _ = _codes("F8_E4M3", (4, 8))
    folder = packed_checkpoint(tmp_path, {"a.weight": ("F8_E4M3", codes)}, quant_method="fp8")
    with pytest.raises(BadCheckpoint, match=r"a\.weight_scale_inv is missing, without which a\.weight"):
        open_checkpoint(folder)


def test_scales_that_fit_in_no_way_are_named(tmp_path: Path) -> None:
    codes, _ = _codes("F8_E4M3", (4, 8))
    tensors: Stored = {"a.weight": ("F8_E4M3", codes), "a.weight_scale": ("F32", _scales((3, 1)))}
    folder = packed_checkpoint(tmp_path, tensors, quant_method="fp8")
    with pytest.raises(BadCheckpoint, match=r"a\.weight_scale \(F32\) has shape \[3, 1\], .*weight of shape \[4, 8\]"):
        open_checkpoint(folder)


@pytest.mark.parametrize("size", [128, [128], [0, 1], ["a", 1]])
def test_a_block_size_that_is_none_is_refused(tmp_path: Path, size: object) -> None:
    folder = packed_checkpoint(tmp_path, {}, quant_method="fp8", weight_block_size=size)
    with pytest.raises(UnsupportedModel, match=r"\(fp8\), with weight_block_size"):
        open_checkpoint(folder)


@pytest.mark.parametrize("method", ["aqlm", "", None])
def test_a_method_that_is_not_known_is_named(tmp_path: Path, method: object) -> None:
    folder = packed_checkpoint(tmp_path, {}, quant_method=method)
    with pytest.raises(UnsupportedModel, match=f"not known here: {method!r}"):
        open_checkpoint(folder)


@pytest.mark.slow
def test_a_file_is_that_of_the_weights_that_the_scales_make(tiny: MakeTiny) -> None:
    def pack(name: str, numbers: Floats) -> tuple[Stored, Floats]:
        codes, held = _codes("F8_E4M3", numbers.shape, seed=len(name))
        scales = _scales((math.ceil(numbers.shape[0] / 128), math.ceil(numbers.shape[1] / 128)))
        held *= np.repeat(np.repeat(scales, 128, 0), 128, 1)
        return {name: ("F8_E4M3", codes), f"{name}_scale_inv": ("F32", scales)}, held

    packed, plain = tiny("packed", dtype="bf16"), tiny("plain", dtype="bf16")
    check_files(packed, plain, pack, quant_method="fp8", weight_block_size=[128, 128])
    with open_checkpoint(packed) as checkpoint:
        assert half_type(checkpoint) == "BF16"
