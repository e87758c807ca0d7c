"""Layers left out: as llama-quantize does it, to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from compare_gguf import different_keys, different_tensors

from localllm.cli.main import main
from localllm.convert import Settings, convert, preview
from localllm.convert.header import i32s, text, u32
from localllm.convert.pruning import kept_names, pruned_keys
from localllm.errors import UnsupportedModel
from localllm.gguf_file import read_header
from localllm.native.quants import quantize_file
from tests.convert.golden import llama_outputs
from tests.convert.helpers import MakeTiny
from tests.convert.matrices import importance, measured, write_gguf


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(0,), (7,), (2, 3, 5)])
def test_the_bytes_are_those_of_llama_quantize(tiny: MakeTiny, tmp_path: Path, layers: tuple[int, ...]) -> None:
    source = tiny(layers=8)
    between = convert(source, tmp_path / "between.gguf", type="BF16").outfile
    ours = convert(source, tmp_path / "ours.gguf", settings=Settings("Q4_K_M", prune_layers=layers)).outfile
    quantize_file(between, tmp_path / "theirs.gguf", "Q4_K_M", prune_layers=layers)
    headers = read_header(ours), read_header(tmp_path / "theirs.gguf")
    assert different_tensors(*headers) == []
    assert [line.split(":")[0] for line in different_keys(*headers)] == ["localllm.settings"]
    assert read_header(ours).n_layer == 8 - len(layers)
    assert llama_outputs(ours).shape[1] == 320


@pytest.mark.slow
def test_each_layer_that_stays_has_the_importance_of_its_old_number(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny(layers=4)
    between = convert(source, tmp_path / "between.gguf", type="BF16").outfile
    entries = measured(between)
    settings = Settings("Q4_K_S", imatrix=write_gguf(tmp_path / "i.gguf", entries), prune_layers=(1,))
    ours = convert(source, tmp_path / "ours.gguf", settings=settings).outfile
    quantize_file(between, tmp_path / "theirs.gguf", "Q4_K_S", prune_layers=(1,), imatrix=importance(entries))
    assert different_tensors(read_header(ours), read_header(tmp_path / "theirs.gguf")) == []
    assert read_header(ours).get("quantize.imatrix.entries_count") == len(entries)


def test_types_can_be_changed_by_the_new_numbers(tiny: MakeTiny) -> None:
    settings = Settings("Q4_0", prune_layers=(0, 1), tensor_types=((r"blk\.1\.", "Q8_0"),))
    types = {tensor.name: tensor.type for tensor in preview(tiny(layers=4), settings=settings).tensors}
    assert types["blk.1.attn_q.weight"] == "Q8_0"
    assert types["blk.0.attn_q.weight"] == "Q4_0"
    assert not any(name.startswith("blk.2.") for name in types)


def test_layers_that_are_not_there_are_refused(tiny: MakeTiny) -> None:
    source = tiny(layers=2)
    with pytest.raises(UnsupportedModel, match="no layer 2: the model has 2 layers, 0 to 1"):
        preview(source, settings=Settings(prune_layers=(1, 2)))
    with pytest.raises(UnsupportedModel, match="No layer would be left"):
        preview(source, settings=Settings(prune_layers=(0, 1)))


def test_a_value_per_layer_is_not_guessed() -> None:
    keys = {"general.architecture": text("x"), "x.block_count": u32(3), "x.attention.head_count": i32s([4, 4, 8])}
    assert kept_names(["blk.2.a", "b"], keys, (1,)) == {"blk.2.a": "blk.1.a", "b": "b"}
    with pytest.raises(UnsupportedModel, match="head_count has a value for each"):
        pruned_keys(keys, (1,))


def test_layers_that_are_what_they_are_by_their_number_stay() -> None:
    keys = {"general.architecture": text("gemma3"), "gemma3.block_count": u32(12)}
    assert pruned_keys(keys, (1,))["gemma3.block_count"].value == 11
    with pytest.raises(UnsupportedModel, match="slide a window follows from their numbers"):
        pruned_keys(keys | {"gemma3.attention.sliding_window": u32(512)}, (1,))


@pytest.mark.slow
def test_the_flag(tiny: MakeTiny, tmp_path: Path) -> None:
    out = str(tmp_path / "x.gguf")
    assert main(["convert", str(tiny(layers=4)), "--outfile", out, "--prune-layers", "2,1"]) == 0
    assert read_header(Path(out)).n_layer == 2
    with pytest.raises(SystemExit):
        main(["convert", "x", "--prune-layers", "-1"])
