"""Gemma 2 and later as published: windows, bases by layer, and language models inside models that see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_tiny_models import write_weights

from localllm.convert import prepare
from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.config import Config
from localllm.convert.families import gemma3n, gemma4, known
from localllm.convert.plan import left_out, plan_tensors
from localllm.errors import BadCheckpoint
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


def _write(golden: Golden, folder: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    """The checkpoint of a golden with tensors of other names."""
    write_checkpoint(golden, folder)
    write_weights(folder, {name: seeded(name, shape) for name, shape in shapes.items()})
    return folder


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
        shapes = {name.replace("language_model.model.", prefix): shape for name, shape in golden.shapes.items()}
        shapes[f"{head}weight"] = shapes[f"{prefix}embed_tokens.weight"]
        with prepare(_write(golden, tmp_path / parent / "tiny", shapes), "F32") as prepared:
            headers.append(prepared.header)
            assert any("The part of the model that sees is left out" in note for note in prepared.preview.notes)
    assert headers[0] == headers[1]


@pytest.mark.slow
def test_gemma_3n_as_published(tmp_path: Path) -> None:
    """Inside a model that sees and hears, with unread weights in the layers that reuse keys."""
    golden = _golden("gemma3n")
    shapes = {name.replace("model.", "model.language_model.", 1): shape for name, shape in golden.shapes.items()}
    sees, hears = "model.vision_tower.timm_model.conv_stem.conv.weight", "model.audio_tower.conformer.0.norm.weight"
    shapes |= {sees: (4, 4), hears: (4,), "model.embed_vision.embedding.weight": (4, 4)}
    own = "model.language_model.layers.20.self_attn."
    for name in ("k_proj", "v_proj", "k_norm"):
        shapes[f"{own}{name}.weight"] = golden.shapes[f"model.layers.18.self_attn.{name}.weight"]
    with open_checkpoint(_write(golden, tmp_path / "tiny", shapes)) as checkpoint:
        family = gemma3n.FAMILY
        config = family.complete(checkpoint.config)
        assert len(left_out(checkpoint, family, config)) == 2
        sources = {tensor.name: tensor.sources for tensor in plan_tensors(checkpoint, family, config)}
    assert sources["blk.20.attn_k.weight"] == (f"{own}k_proj.weight",)
    assert sources["blk.21.attn_k.weight"] == ("model.language_model.layers.19.self_attn.k_proj.weight",)


@pytest.mark.slow
@pytest.mark.parametrize("type", ["F16", "Q4_0"])
def test_matrices_that_are_multiplied_as_one_are_not_in_f16(type: str, tmp_path: Path) -> None:
    with prepare(write_checkpoint(_golden("gemma3n"), tmp_path / "tiny"), type) as prepared:
        types = {tensor.name: tensor.type for tensor in prepared.preview.tensors}
    assert types["altup_proj.weight"] == types["altup_unembd_proj.weight"] == "F32"
    assert types["blk.0.laurel_l.weight"] == "F16"


def test_a_gate_is_cut_off_where_most_of_a_normal_distribution_lies_below() -> None:
    assert gemma3n.cut_off(0.95) == pytest.approx(1.6448536)
    assert gemma3n.cut_off(0.0) == float("-inf")


@pytest.mark.parametrize("pattern", [[0.95] * 21, 0.95, [2.0] * 22, ["0.95"] * 22])
def test_other_than_one_part_of_the_gates_for_each_layer_is_an_error(pattern: Any) -> None:
    with pytest.raises(BadCheckpoint, match="activation_sparsity_pattern"):
        gemma3n.sparsities(Config(_golden("gemma3n").config | {"activation_sparsity_pattern": pattern}))


PUBLISHED_26B: dict[str, Any] = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "model_type": "gemma4",
    "text_config": {
        "attention_k_eq_v": True,
        "enable_moe_block": True,
        "global_head_dim": 512,
        "hidden_size": 2816,
        "hidden_size_per_layer_input": 0,
        "intermediate_size": 2112,
        "moe_intermediate_size": 704,
        "num_attention_heads": 16,
        "num_experts": 128,
        "num_global_key_value_heads": 2,
        "num_hidden_layers": 30,
        "num_key_value_heads": 8,
        "top_k_experts": 8,
        "use_bidirectional_attention": "vision",
    },
}


def test_gemma_4_has_heads_of_two_sizes() -> None:
    keys = _keys(PUBLISHED_26B)
    assert keys["attention.head_count_kv"] == [8, 8, 8, 8, 8, 2] * 5
    assert (keys["attention.key_length"], keys["attention.key_length_swa"]) == (512, 256)
    assert (keys["rope.dimension_count"], keys["rope.dimension_count_swa"]) == (512, 256)
    assert (keys["rope.freq_base"], keys["rope.freq_base_swa"]) == (1e6, 1e4)
    assert keys["attention.sliding_window_pattern"] == [True, True, True, True, True, False] * 5
    assert (keys["expert_count"], keys["expert_used_count"], keys["expert_feed_forward_length"]) == (128, 8, 704)
    assert keys["final_logit_softcapping"] == 0, "without a key llama.cpp would cap"


def test_only_a_part_of_each_head_is_rotated_in_layers_without_a_window() -> None:
    (extra,) = gemma4.extras(gemma4.FAMILY.complete(Config(PUBLISHED_26B)))
    factors = extra.transform.rows(lambda *_: np.empty(0), 0, 256).ravel()
    assert (factors[:64] == 1).all()
    assert (factors[64:] > 1e20).all()


def test_the_last_layer_of_a_gemma_4_never_slides() -> None:
    config = Config(
        _golden("gemma4").old_config | {"layer_types": ["sliding_attention"] * 6, "num_kv_shared_layers": 0}
    )
    assert gemma4.slides(gemma4.FAMILY.complete(config)) == [True] * 5 + [False]


def test_weights_in_layers_that_reuse_keys_are_kept_as_published(tmp_path: Path) -> None:
    golden = _golden("gemma4")
    name = "model.layers.4.self_attn.k_proj.weight"
    shapes = {**golden.shapes, name: golden.shapes["model.layers.0.self_attn.k_proj.weight"]}
    with open_checkpoint(_write(golden, tmp_path / "tiny", shapes)) as checkpoint:
        plan = plan_tensors(checkpoint, gemma4.FAMILY, gemma4.FAMILY.complete(checkpoint.config))
    assert {tensor.name for tensor in plan if "attn_k.weight" in tensor.name} == {
        f"blk.{layer}.attn_k.weight" for layer in range(5)
    }


@pytest.mark.parametrize("found", [[{"head_dim": 32}], {"5": 32}])
def test_settings_of_layers_that_are_no_objects_are_an_error(found: Any) -> None:
    with pytest.raises(BadCheckpoint, match="per_layer_config is"):
        _keys(_golden("gemma4").config | {"per_layer_config": found})
