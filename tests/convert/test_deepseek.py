"""What is particular to DeepSeek: layers that predict further tokens, groups of experts, and the notes on both."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from make_tiny_models import write_weights

from localllm.convert import preview
from localllm.convert.config import Config
from localllm.convert.families import deepseek, experts, gpt_oss
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.golden import Golden, goldens, seeded, write_checkpoint

NEXT = "model.layers.2.eh_proj.weight"


@pytest.fixture
def third() -> Golden:
    return next(golden for golden in goldens() if golden.name == "deepseek-v3")


def _with(golden: Golden, folder: Path, name: str) -> Path:
    write_checkpoint(golden, folder)
    shapes = golden.shapes | {name: (64, 128)}
    write_weights(folder, {name: seeded(name, shape) for name, shape in shapes.items()})
    return folder


def test_layers_that_predict_further_tokens_are_left_out_with_a_note(third: Golden, tmp_path: Path) -> None:
    found = preview(_with(third, tmp_path / "tiny", NEXT), "F32")
    assert any("predict the tokens after the next" in note for note in found.notes)
    assert not any(tensor.name.startswith("blk.2.") for tensor in found.tensors)
    assert not preview(write_checkpoint(third, tmp_path / "without"), "F32").notes


def test_more_layers_than_the_file_says_are_an_error(third: Golden, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"model\.layers\.3\.eh_proj"):
        preview(_with(third, tmp_path / "tiny", NEXT.replace("2", "3")), "F32")


@pytest.mark.parametrize(
    ("layers", "vocab", "lite"),
    [(26, 320, True), (27, 102400, True), (48, 128256, True), (48, 129280, False), (28, 128256, False)],
)
def test_a_latent_of_queries_is_refused_where_llama_cpp_takes_the_model_for_a_lite_one(
    third: Golden, layers: int, vocab: int, lite: bool
) -> None:
    config = Config({**third.config, "num_hidden_layers": layers, "vocab_size": vocab})
    with (
        pytest.raises(UnsupportedModel, match=f"{layers} layers and a vocabulary of {vocab}") if lite else nullcontext()
    ):
        deepseek.refuse_third(config)
    deepseek.refuse_third(Config({**config.values, "q_lora_rank": None}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"n_group": 8, "topk_group": 3}, [8, 3]),
        ({"n_group": 1, "topk_group": 1}, []),
        ({"n_group": 4, "topk_group": 4}, []),
        ({"n_group": None, "topk_group": None}, []),
    ],
)
def test_groups_of_experts_are_named_only_where_they_exclude_some(values: dict[str, Any], expected: list[int]) -> None:
    assert [key.value for key in experts.groups(Config(values), "deepseek2").values()] == expected


def test_what_llama_cpp_computes_otherwise_is_told() -> None:
    values = {"rms_norm_eps": 1e-6, "topk_method": "group_limited_greedy", "n_group": 8, "topk_group": 3}
    assert "best two" in deepseek.notes_second(Config(values))[0]
    assert deepseek.notes_second(Config(values | {"topk_method": "greedy"})) == []
    assert "epsilon" in deepseek.notes(Config({"rms_norm_eps": 1e-5}))[0]
    ramp = {"rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "truncate": False}
    assert "rounds the ends" in gpt_oss.notes(Config({"rope_parameters": ramp}))[0]
    assert gpt_oss.notes(Config({"rope_parameters": ramp | {"truncate": True}})) == []
