"""bitsandbytes: blocks of four-bit numbers over a flat tensor, and int8 rows, packed here by the definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.convert.checkpoint import open_checkpoint
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.packed.files import Array, Floats, Stored, check_rows, packed_checkpoint

SHAPE, BLOCK = (9, 21), 16
BITSANDBYTES: dict[str, Any] = {"quant_method": "bitsandbytes", "load_in_4bit": True}


def _state(name: str = "nf4", **more: Any) -> Stored:
    told = {"quant_type": name, "blocksize": BLOCK, "dtype": "bfloat16", "shape": list(SHAPE), **more}
    content = np.frombuffer(json.dumps(told).encode(), dtype=np.uint8)
    return {f"a.weight.quant_state.bitsandbytes__{name}": ("U8", content)}


def _codes() -> tuple[Array, Array]:
    """Random codes one by one, and as bytes with the first of two in the high half."""
    codes = np.random.default_rng(1).integers(0, 16, SHAPE[0] * SHAPE[1])
    pairs = np.append(codes, 0).reshape(-1, 2)
    return codes, (pairs[:, 0] * 16 + pairs[:, 1]).astype(np.uint8).reshape(-1, 1)


def _four_bit(name: str = "nf4") -> tuple[Stored, Floats]:
    generator = np.random.default_rng(2)
    codes, packed = _codes()
    table = np.sort(generator.uniform(-1, 1, 16)).astype(np.float32)
    largest = generator.uniform(0.01, 0.1, -(-len(codes) // BLOCK)).astype(np.float32)
    weight = np.array([table[code] * largest[place // BLOCK] for place, code in enumerate(codes)], dtype=np.float32)
    tensors: Stored = {
        "a.weight": ("U8", packed),
        "a.weight.absmax": ("F32", largest),
        "a.weight.quant_map": ("F32", table),
        **_state(name),
    }
    return tensors, weight.reshape(SHAPE)


@pytest.mark.parametrize("name", ["nf4", "fp4"])
def test_four_bits_whose_rows_begin_inside_bytes_and_blocks(tmp_path: Path, name: str) -> None:
    tensors, weight = _four_bit(name)
    check_rows(packed_checkpoint(tmp_path, tensors, **BITSANDBYTES), "a.weight", weight)


def test_largest_values_that_are_quantized_themselves(tmp_path: Path) -> None:
    tensors, _ = _four_bit()
    generator = np.random.default_rng(3)
    count, inner = tensors["a.weight.absmax"][1].size, 4
    codes = generator.integers(0, 256, count)
    table = np.sort(generator.uniform(-1, 1, 256)).astype(np.float32)
    outer = generator.uniform(0.01, 0.1, -(-count // inner)).astype(np.float32)
    offset = 0.0625
    largest = [table[code] * outer[place // inner] + np.float32(offset) for place, code in enumerate(codes)]
    tensors |= {
        "a.weight.absmax": ("U8", codes.astype(np.uint8)),
        "a.weight.nested_absmax": ("F32", outer),
        "a.weight.nested_quant_map": ("F32", table),
        **_state(nested_blocksize=inner, nested_dtype="float32", nested_offset=offset),
    }
    flat = _codes()[0]
    values = tensors["a.weight.quant_map"][1]
    weight = np.array([values[code] * largest[place // BLOCK] for place, code in enumerate(flat)], dtype=np.float32)
    check_rows(packed_checkpoint(tmp_path, tensors, **BITSANDBYTES), "a.weight", weight.reshape(SHAPE))


def test_bytes_that_are_stored_as_another_type(tmp_path: Path) -> None:
    tensors, weight = _four_bit()
    state = _state(shape=[SHAPE[0] - 1, SHAPE[1]])
    packed = tensors["a.weight"][1][: weight[:-1].size // 2]
    tensors |= {"a.weight": ("BF16", packed.reshape(-1).view(np.uint16).reshape(-1, 1)), **state}
    tensors["a.weight.absmax"] = ("F32", tensors["a.weight.absmax"][1][: -(-weight[:-1].size // BLOCK)])
    check_rows(packed_checkpoint(tmp_path, tensors, **BITSANDBYTES), "a.weight", weight[:-1])


@pytest.mark.parametrize("part", ["a.weight", "a.weight.absmax", "a.weight.quant_map"])
def test_a_part_that_is_missing_is_named(tmp_path: Path, part: str) -> None:
    tensors, _ = _four_bit()
    del tensors[part]
    with pytest.raises(BadCheckpoint, match=f"the tensor {part} is missing"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, **BITSANDBYTES))


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("a.weight.absmax", ("F32", np.zeros(3, dtype=np.float32))),
        ("a.weight.absmax", ("U8", np.zeros(12, dtype=np.uint8))),
        ("a.weight.quant_map", ("F32", np.zeros(15, dtype=np.float32))),
        ("a.weight", ("U8", np.zeros((7, 1), dtype=np.uint8))),
    ],
)
def test_a_part_that_does_not_fit_is_named(tmp_path: Path, part: str, tensor: tuple[str, Array]) -> None:
    tensors, _ = _four_bit()
    with pytest.raises(BadCheckpoint, match=rf"{part} \(\w+\) has shape"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors | {part: tensor}, **BITSANDBYTES))


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"shape": [0], "blocksize": 4}', b'{"shape": 3}'])
def test_a_state_that_says_nothing_is_named(tmp_path: Path, content: bytes) -> None:
    tensors, _ = _four_bit()
    tensors["a.weight.quant_state.bitsandbytes__nf4"] = ("U8", np.frombuffer(content, dtype=np.uint8))
    with pytest.raises(BadCheckpoint, match="does not say how its weight is quantized"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, **BITSANDBYTES))


def test_another_kind_is_named(tmp_path: Path) -> None:
    tensors, _ = _four_bit("int5")
    with pytest.raises(UnsupportedModel, match="quant_type 'int5'"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, **BITSANDBYTES))


def _int8() -> tuple[Stored, Floats]:
    generator = np.random.default_rng(4)
    codes = generator.integers(-127, 128, SHAPE).astype(np.int8)
    largest = generator.uniform(0.1, 2, SHAPE[0]).astype(np.float32)
    weight = codes.astype(np.float32) * largest[:, None] * np.float32(1 / 127)
    return {
        "a.weight": ("I8", codes),
        "a.SCB": ("F32", largest),
        "a.weight_format": ("U8", np.zeros((), dtype=np.uint8)),
    }, weight


def test_int8_rows(tmp_path: Path) -> None:
    tensors, weight = _int8()
    check_rows(packed_checkpoint(tmp_path, tensors, load_in_8bit=True), "a.weight", weight)


def test_int8_that_is_not_in_rows_is_refused(tmp_path: Path) -> None:
    tensors, _ = _int8()
    tensors["a.weight_format"] = ("U8", np.array(2, dtype=np.uint8))
    with pytest.raises(UnsupportedModel, match=r"a\.weight_format \[2\]"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, load_in_8bit=True))
    tensors["a.weight_format"] = ("U8", np.array(0, dtype=np.uint8))
    tensors["a.SCB"] = ("F32", np.zeros(8, dtype=np.float32))
    with pytest.raises(BadCheckpoint, match=r"a\.SCB \(F32\) has shape \[8\]"):
        open_checkpoint(packed_checkpoint(tmp_path, tensors, load_in_8bit=True))
