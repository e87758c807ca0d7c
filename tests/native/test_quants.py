"""ggml's types, quantizers and number formats through our door."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from localllm.errors import BadModelFile
from localllm.gguf_file import TENSOR_TYPES, read_header
from localllm.native import quants


def test_our_table_of_types_is_that_of_ggml() -> None:
    assert quants.type_table() == TENSOR_TYPES


def test_our_names_of_types_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): kind.name for kind in gguf.GGMLQuantizationType}
    assert {number: entry[0] for number, entry in TENSOR_TYPES.items() if number in theirs} == {
        number: name for number, name in theirs.items() if number in TENSOR_TYPES
    }


def test_our_names_of_file_types_are_those_of_the_gguf_package() -> None:
    theirs = {int(kind): kind.name for kind in gguf.LlamaFileType}
    for name, number in quants.FILE_TYPE_IDS.items():
        if number in theirs:
            assert theirs[number] in (f"MOSTLY_{name}", f"ALL_{name}")


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_simple_types_equal_the_gguf_packages_own_quantizers(name: str) -> None:
    rows = np.random.default_rng(1).standard_normal((8, 64), dtype=np.float32)
    ours = np.empty(8 * quants.row_bytes(name, 64), dtype=np.uint8)
    assert quants.quantize(name, rows, ours, 8, 64) == ours.size
    theirs = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[name])
    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize(("name", "error"), [("Q4_K", 0.08), ("Q6_K", 0.02), ("Q2_K", 0.35), ("IQ4_XS", 0.1)])
def test_block_types_come_back_near_what_went_in(name: str, error: float) -> None:
    rows = np.random.default_rng(1).standard_normal((4, 512), dtype=np.float32)
    data = np.empty(4 * quants.row_bytes(name, 512), dtype=np.uint8)
    quants.quantize(name, rows, data, 4, 512)
    back = gguf.quants.dequantize(data.reshape(4, -1), gguf.GGMLQuantizationType[name])
    assert np.sqrt(np.mean((back - rows) ** 2)) < error


def test_rows_are_independent() -> None:
    rows = np.random.default_rng(1).standard_normal((6, 256), dtype=np.float32)
    size = quants.row_bytes("Q4_K", 256)
    whole, parts = np.empty(6 * size, dtype=np.uint8), np.empty(6 * size, dtype=np.uint8)
    quants.quantize("Q4_K", rows, whole, 6, 256)
    for start, stop in ((0, 1), (1, 4), (4, 6)):
        quants.quantize("Q4_K", rows[start:stop], parts[start * size :], stop - start, 256)
    assert whole.tobytes() == parts.tobytes()


def test_every_f16_number_widens_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = np.empty(1 << 16, dtype=np.float32)
    quants.to_float32("F16", bits, wide, bits.size)
    np.testing.assert_array_equal(wide, bits.view(np.float16).astype(np.float32))


def test_every_bf16_number_widens_exactly() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = np.empty(1 << 16, dtype=np.float32)
    quants.to_float32("BF16", bits, wide, bits.size)
    finite = (bits & 0x7F80) != 0x7F80
    np.testing.assert_array_equal(wide.view(np.uint32)[finite], bits[finite].astype(np.uint32) << 16)


def test_f16_and_bf16_round_to_the_nearest_even() -> None:
    numbers = np.random.default_rng(2).standard_normal(4096, dtype=np.float32)
    numbers[:4] = (1 + 2**-11, 1 + 3 * 2**-11, 6e-8, 1 + 2**-8)
    half, brain = np.empty(4096, dtype=np.uint16), np.empty(4096, dtype=np.uint16)
    quants.quantize("F16", numbers, half, 1, 4096)
    quants.quantize("BF16", numbers, brain, 1, 4096)
    np.testing.assert_array_equal(half, numbers.astype(np.float16).view(np.uint16))
    bits = numbers.view(np.uint32)
    np.testing.assert_array_equal(brain, ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_found(bad: float) -> None:
    numbers = np.zeros(64, dtype=np.float32)
    assert quants.is_valid("F32", numbers, numbers.nbytes)
    numbers[63] = bad
    assert not quants.is_valid("F32", numbers, numbers.nbytes)


def test_a_dry_run_names_every_tensor_and_writes_nothing(smollm2: Path, tmp_path: Path) -> None:
    log = quants.quantize_file(smollm2, tmp_path / "never.gguf", "Q4_1", dry_run=True)
    assert all(tensor.name in log for tensor in read_header(smollm2).tensors)
    assert not (tmp_path / "never.gguf").exists()


@pytest.mark.slow
def test_a_refusal_gives_the_reason_of_llama_cpp(smollm2: Path, tmp_path: Path) -> None:
    with pytest.raises(BadModelFile, match="requantizing from type"):
        quants.quantize_file(smollm2, tmp_path / "never.gguf", "Q8_0")
