"""The types that libllama picks for each tensor, and what it needs for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.convert import convert, preview
from localllm.convert.quantizations import TYPES
from localllm.errors import UnsupportedModel
from localllm.native.quants import quantize_file
from tests.convert.helpers import NEED_IMATRIX, MakeTiny


@pytest.mark.parametrize("name", NEED_IMATRIX)
def test_types_that_need_an_importance_matrix_say_so(tiny: MakeTiny, name: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"{name} needs an importance matrix"):
        preview(tiny(layers=8), name)


@pytest.mark.parametrize("name", TYPES)
def test_llama_cpp_itself_wants_an_importance_matrix_for_these_and_no_others(
    tiny: MakeTiny, name: str, tmp_path: Path
) -> None:
    source = convert(tiny(layers=8, heads=4, kv_heads=4), tmp_path / "f16.gguf", type="F16").outfile
    log = quantize_file(source, tmp_path / "no.gguf", name, dry_run=True)
    assert ("will require an imatrix" in log) == (name in NEED_IMATRIX)


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
