"""The types that libllama picks for each tensor, and what it needs for them."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from localllm.convert import Settings, convert, preview
from localllm.convert.quantizations import TENSOR_TYPES, TYPES
from localllm.errors import UnsupportedModel
from localllm.native.quants import quantize_file
from tests.convert.helpers import NEED_IMATRIX, MakeTiny


@pytest.mark.slow
@pytest.mark.parametrize("name", NEED_IMATRIX)
def test_types_that_need_an_importance_matrix_say_so(tiny: MakeTiny, name: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"{name} needs an importance matrix here"):
        preview(tiny(layers=8), name)


@pytest.mark.slow
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


def types_of(source: Path, settings: Settings) -> dict[str, str]:
    return {tensor.name: tensor.type for tensor in preview(source, settings=settings).tensors}


def test_changing_one_tensor_leaves_the_types_of_all_others(tiny: MakeTiny) -> None:
    source = tiny(layers=8)
    usual = types_of(source, Settings("Q4_K_M"))
    changed = types_of(source, Settings("Q4_K_M", tensor_types=((r"blk\.[01]\.attn_v", "q8_0"), ("FFN_UP", "iq4_xs"))))
    for name, kind in usual.items():
        if name in ("blk.0.attn_v.weight", "blk.1.attn_v.weight"):
            assert changed[name] == "Q8_0"
        elif "ffn_up" in name:
            assert changed[name] == "IQ4_XS"
        else:
            assert changed[name] == kind, name


def test_the_first_pattern_that_fits_counts_and_norms_keep_their_type(tiny: MakeTiny) -> None:
    types = types_of(tiny(), Settings("Q4_0", tensor_types=(("attn_q", "F16"), ("attn", "Q8_0"))))
    assert types["blk.0.attn_q.weight"] == "F16"
    assert types["blk.0.attn_k.weight"] == "Q8_0"
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert types["blk.0.ffn_up.weight"] == "Q4_0"


def test_a_changed_tensor_falls_back_like_any_other(tiny: MakeTiny) -> None:
    found = preview(tiny(hidden=96, ffn=256, heads=2, kv_heads=1), settings=Settings("Q8_0", output_type="Q4_K"))
    assert {t.type for t in found.tensors if t.name == "output.weight"} == {"Q5_0"}
    assert any("1 of 21 tensors get a type of smaller blocks" in note for note in found.notes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TENSOR_TYPES)
def test_every_tensor_type_can_be_given(tiny: MakeTiny, kind: str) -> None:
    settings = Settings("Q8_0", output_type=kind)
    if kind in ("IQ1_S", "IQ2_XXS", "IQ2_XS"):  # ggml would end the process
        with pytest.raises(UnsupportedModel, match=r"without one output\.weight is of no use"):
            types_of(tiny(), settings)
    else:
        assert types_of(tiny(), settings)["output.weight"] == kind


def test_outer_matrices(tiny: MakeTiny) -> None:
    untied, tied = tiny(), tiny("tied", tied=True)
    types = types_of(
        untied, Settings("Q4_K_M", output_type="Q5_K", embedding_type="Q3_K", tensor_types=((".", "F16"),))
    )
    assert (types["output.weight"], types["token_embd.weight"], types["blk.0.ffn_up.weight"]) == ("Q5_K", "Q3_K", "F16")
    assert types_of(tied, Settings("Q4_K_M", output_type="Q5_K"))["token_embd.weight"] == "Q5_K"
    with pytest.raises(UnsupportedModel, match="only one type"):
        types_of(tied, Settings("Q4_K_M", output_type="Q5_K", embedding_type="Q3_K"))


def test_pure_is_one_type_for_all(tiny: MakeTiny) -> None:
    assert set(types_of(tiny(layers=8), Settings("Q4_K_M", pure=True)).values()) == {"Q4_K", "F32"}


def test_a_type_without_a_fallback_is_refused_for_rows_that_do_not_fill_its_blocks(tiny: MakeTiny) -> None:
    with pytest.raises(UnsupportedModel, match="makes no Q1_0 of this model: no tensor type fallback") as caught:
        preview(tiny(hidden=96, ffn=256, heads=2, kv_heads=1), "Q1_0")
    assert "--list-types" in caught.value.hint


def test_what_cannot_be_meant_is_refused(tiny: MakeTiny) -> None:
    source = tiny()
    with pytest.raises(UnsupportedModel, match=r"No tensor of this model that can be quantized .* 'attn_norm'"):
        types_of(source, Settings(tensor_types=(("attn_norm", "F16"),)))
    with pytest.raises(UnsupportedModel, match=r"(?s)no tensor type 'Q4_K_M'.*Nearest: Q4_K"):
        types_of(source, Settings(output_type="Q4_K_M"))
    with pytest.raises(UnsupportedModel, match=r"without one output\.weight is of no use in IQ2_XS"):
        types_of(source, Settings(output_type="IQ2_XS"))


@pytest.mark.slow
def test_the_bytes_of_changed_tensors(tiny: MakeTiny, tmp_path: Path) -> None:
    """Each tensor is what it is when all are of its type."""
    source = tiny()
    settings = Settings("Q4_0", tensor_types=(("ffn_down", "Q6_K"),), output_type="Q5_1", embedding_type="Q2_K")
    ours = contents(convert(source, tmp_path / "x.gguf", settings=settings).outfile)
    for kind, part in {"Q4_0": "blk.0.attn_q", "Q6_K": "blk.1.ffn_down", "Q5_1": "output.", "Q2_K": "token"}.items():
        alike = convert(source, tmp_path / "y.gguf", settings=Settings(kind, pure=True), force=True).outfile
        theirs = {name: content for name, content in contents(alike).items() if name.startswith(part)}
        assert theirs
        assert theirs == {name: ours[name] for name in theirs}


def contents(path: Path) -> dict[str, tuple[str, bytes]]:
    return {t.name: (t.tensor_type.name, t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}
