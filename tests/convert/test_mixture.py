"""Quantization types: the names people give, and the types that libllama picks."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.convert import preview
from localllm.convert.mixture import NEED_IMATRIX, TYPES, parse_type
from localllm.errors import UnsupportedModel
from localllm.native.quants import FILE_TYPE_IDS, quantize_file
from tests.convert.helpers import MakeTiny


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("q4_k_m", "Q4_K_M"),
        ("Q4_K", "Q4_K_M"),
        ("Q5_k", "Q5_K_M"),
        ("q3-k", "Q3_K_M"),
        (" f16 ", "F16"),
        ("fp16", "F16"),
    ],
)
def test_names_in_any_case_and_with_aliases(name: str, kind: str) -> None:
    assert parse_type(name) == kind


@pytest.mark.parametrize(("name", "near"), [("Q4_K_N", "Q4_K_M"), ("Q8", "Q8_0"), ("q4km", "Q4_K_M"), ("zzz", "Known")])
def test_a_wrong_name_suggests_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnsupportedModel, match=near):
        parse_type(name)


@pytest.mark.parametrize("name", NEED_IMATRIX)
def test_types_that_need_an_importance_matrix_say_so(name: str) -> None:
    with pytest.raises(UnsupportedModel, match="needs an importance matrix"):
        parse_type(name)


@pytest.mark.parametrize("name", NEED_IMATRIX)
def test_llama_cpp_itself_wants_an_importance_matrix_for_these(tiny: MakeTiny, name: str, tmp_path: Path) -> None:
    from localllm.convert import convert

    source = convert(tiny(), tmp_path / "f16.gguf", type="F16").outfile
    assert "will require an imatrix" in quantize_file(source, tmp_path / "no.gguf", name, dry_run=True)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_one_of_llama_cpp(name: str) -> None:
    assert name in FILE_TYPE_IDS


def test_the_mixture_of_q4_k_m(tiny: MakeTiny) -> None:
    types = {tensor.name: tensor.type for tensor in preview(tiny(layers=8), "Q4_K_M").tensors}
    assert types["output.weight"] == "Q6_K"
    assert types["token_embd.weight"] == "Q4_K"
    assert types["blk.0.attn_v.weight"] == types["blk.0.ffn_down.weight"] == "Q6_K"
    assert types["blk.2.attn_v.weight"] == types["blk.2.ffn_up.weight"] == "Q4_K"
    assert types["blk.0.attn_norm.weight"] == "F32"


def test_rows_that_do_not_fill_blocks_fall_back_and_it_is_told(tiny: MakeTiny) -> None:
    found = preview(tiny(hidden=96, ffn=256, heads=2, kv_heads=1), "Q4_K_M")
    assert {tensor.type for tensor in found.tensors} >= {"Q5_0", "Q6_K"}
    assert any("get a type of smaller blocks" in note for note in found.notes)
    assert not preview(tiny("even"), "Q4_K_M").notes
