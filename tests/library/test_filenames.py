"""What is read from the name of a file."""

from __future__ import annotations

import pytest

from localllm.library import filenames


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Q8_0/big-IQ2_XXS-00001-of-00003.gguf", "IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("model.BF16.gguf", "BF16"),
        ("model-f16.gguf", "F16"),
        ("Qwen3-8B.gguf", ""),
        ("stories260K.gguf", ""),
    ],
)
def test_the_quantization(name: str, wanted: str) -> None:
    assert filenames.quantization(name) == wanted


def test_parts() -> None:
    names = [
        "m-00002-of-00002.gguf",
        "m-00001-of-00002.gguf",
        "m-00001-of-00003.gguf",
        "n-00001-of-00002.gguf",
        "m.gguf",
    ]
    assert filenames.parts_among("m-00001-of-00002.gguf", names) == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    assert filenames.parts_among("m.gguf", names) == ["m.gguf"]
    assert filenames.part_of("a/m-00002-of-00002.gguf") == (2, 2)
    assert filenames.part_of("m.gguf") == (1, 1)
