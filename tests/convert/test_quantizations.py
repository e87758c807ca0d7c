"""The names that people give to quantization types."""

from __future__ import annotations

import pytest

from localllm.convert.quantizations import TYPES, parse_type
from localllm.errors import UnsupportedModel
from localllm.native.quants import FILE_TYPE_IDS


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("q4_k_m", "Q4_K_M"),
        ("Q4_K", "Q4_K_M"),
        ("Q5_k", "Q5_K_M"),
        ("q3-k", "Q3_K_M"),
        (" f16 ", "F16"),
        ("fp16", "F16"),
        ("iq1_s", "IQ1_S"),
        ("mxfp4_moe", "MXFP4_MOE"),
    ],
)
def test_names_in_any_case_and_with_aliases(name: str, kind: str) -> None:
    assert parse_type(name) == kind


@pytest.mark.parametrize(("name", "near"), [("Q4_K_N", "Q4_K_M"), ("Q8", "Q8_0"), ("q4km", "Q4_K_M"), ("zzz", "Known")])
def test_a_wrong_name_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnsupportedModel, match=near):
        parse_type(name)


def test_every_type_that_llama_cpp_can_write_is_offered() -> None:
    # llama.cpp knows the file type NVFP4 but its quantizer makes no file of it.
    assert FILE_TYPE_IDS.keys() - {"NVFP4"} == set(TYPES)
