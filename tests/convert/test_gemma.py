"""Gemma 2 and later as published: windows, bases by layer, and language models inside models that see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make_tiny_models import write_weights

from localllm.convert import prepare
from localllm.convert.config import Config
from localllm.convert.families import known
from tests.convert.golden import FOLDER, Golden, seeded, write_checkpoint

PUBLISHED_4B: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "eos_token_id": [1, 106],
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 1152, "model_type": "siglip_vision_model"},
}
"""How little the first published files of Gemma 3 say."""


def _golden(name: str) -> Golden:
    return Golden(name, json.loads((FOLDER / f"{name}.json").read_text("utf-8")))


def _keys(values: dict[str, Any]) -> dict[str, Any]:
    config = Config(values)
    family = known()[config.architecture]
    config = family.complete(config)
    family.refuse(config)
    prefix = f"{family.arch}."
    return {name.removeprefix(prefix): key.value for name, key in family.hyperparameters(config, family.arch).items()}


def test_what_published_files_leave_out_is_that_of_transformers() -> None:
    keys = _keys(PUBLISHED_4B)
    assert (keys["embedding_length"], keys["attention.head_count"], keys["attention.head_count_kv"]) == (2560, 8, 4)
    assert (keys["context_length"], keys["attention.key_length"]) == (131072, 256)
    assert (keys["rope.freq_base"], keys["rope.freq_base_swa"]) == (1e6, 1e4)
    assert (keys["rope.scaling.type"], keys["rope.scaling.factor"]) == ("linear", 8.0)
    assert keys["attention.sliding_window"] == 1024
    assert "attention.sliding_window_pattern" not in keys, "llama.cpp slides five of six by itself"


def test_another_pattern_of_windows_is_written() -> None:
    assert _keys(_golden("gemma3-pattern").config)["attention.sliding_window_pattern"] == [True, False, True]


def test_a_gemma_3_without_windows_has_no_keys_for_them() -> None:
    config = _golden("gemma3").old_config | {"sliding_window_pattern": 1}
    assert not [key for key in _keys(config) if "sliding_window" in key or "swa" in key]


def test_the_largest_models_scale_attention_by_the_width_of_all_heads() -> None:
    text = PUBLISHED_4B["text_config"] | {
        "hidden_size": 5376,
        "num_attention_heads": 32,
        "num_hidden_layers": 62,
        "head_dim": 128,
        "query_pre_attn_scalar": 168,
    }
    assert _keys(PUBLISHED_4B | {"text_config": text})["block_count"] == 62


@pytest.mark.parametrize(
    ("inside", "head"), [("model.language_model.", "lm_head."), ("language_model.model.", "language_model.lm_head.")]
)
def test_a_language_model_inside_another_is_found_under_both_of_its_names(
    inside: str, head: str, tmp_path: Path
) -> None:
    golden = _golden("gemma3-vision")
    headers = []
    for parent, prefix in (("as-saved", "language_model.model."), ("renamed", inside)):
        folder = write_checkpoint(golden, tmp_path / parent / "tiny")
        shapes = {name.replace("language_model.model.", prefix): shape for name, shape in golden.shapes.items()}
        shapes[f"{head}weight"] = shapes[f"{prefix}embed_tokens.weight"]
        write_weights(folder, {name: seeded(name, shape) for name, shape in shapes.items()})
        with prepare(folder, "F32") as prepared:
            headers.append(prepared.header)
            assert any("The part of the model that sees is left out" in note for note in prepared.preview.notes)
    assert headers[0] == headers[1]
