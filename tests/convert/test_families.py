"""Which architectures are converted, their hyperparameters, and configurations that GGUF cannot express."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from localllm.convert.config import Config
from localllm.convert.families import decoder, known, llama, rope
from localllm.errors import BadCheckpoint, UnsupportedModel

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

YARN = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096}


def _config(architecture: str = "LlamaForCausalLM", **values: Any) -> Config:
    """A config.json of transformers 5 that names nothing but `values`: the rest is left to the defaults."""
    return Config({"architectures": [architecture], **values}, llama.DEFAULTS[architecture])


def _keys(config: Config) -> dict[str, Any]:
    return {key.removeprefix("llama."): value.value for key, value in llama.hyperparameters(config, "llama").items()}


@pytest.mark.parametrize("architecture", sorted(known()))
def test_every_known_architecture_has_a_family_with_defaults(architecture: str) -> None:
    family = known()[architecture]
    sizes = family.dimensions(Config({}, family.defaults[architecture]))
    assert min(sizes["layers"], sizes["vocab"], sizes["hidden"]) > 1


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("LlamaForCausalLM", "num_hidden_layers"), ("BloomForCausalLM", "n_layer"), ("GPT2LMHeadModel", "n_layer")],
)
def test_more_layers_than_llama_cpp_has_room_for_are_refused_at_once(architecture: str, name: str) -> None:
    family = known()[architecture]
    assert family.dimensions(family.complete(Config({"architectures": [architecture], name: 512})))["layers"] == 512
    with pytest.raises(UnsupportedModel, match=r"is 10{12}; llama\.cpp runs at most 512 layers"):
        family.complete(Config({"architectures": [architecture], name: 10**12}))


def test_defaults_are_those_of_transformers() -> None:
    keys = _keys(_config())
    assert (keys["block_count"], keys["embedding_length"], keys["context_length"]) == (32, 4096, 2048)
    assert (keys["attention.head_count"], keys["attention.head_count_kv"]) == (32, 32)
    assert (keys["rope.freq_base"], keys["attention.layer_norm_rms_epsilon"]) == (10000.0, 1e-6)
    assert _keys(_config("MistralForCausalLM"))["attention.head_count_kv"] == 8


def test_an_explicit_head_size_counts() -> None:
    config = _config(hidden_size=3072, num_attention_heads=24, head_dim=256, num_key_value_heads=8)
    sizes, keys = decoder.dimensions(config), _keys(config)
    assert (sizes["q"], sizes["kv"]) == (24 * 256, 8 * 256)
    assert keys["attention.key_length"] == keys["attention.value_length"] == keys["rope.dimension_count"] == 256


def test_linear_and_yarn_scaling_become_keys() -> None:
    linear = _keys(_config(rope_scaling={"type": "linear", "factor": 4.0}))
    assert (linear["rope.scaling.type"], linear["rope.scaling.factor"]) == ("linear", 4.0)
    keys = _keys(_config(rope_parameters={**YARN, "rope_theta": 1e6}))
    assert (keys["rope.scaling.type"], keys["rope.scaling.original_context_length"]) == ("yarn", 4096)
    assert (keys["rope.scaling.factor"], keys["rope.freq_base"]) == (16.0, 1e6)
    assert "rope.scaling.attn_factor" not in keys


@pytest.mark.parametrize(
    ("values", "attention_factor"),
    [
        ({"attention_factor": 1.0}, 1.0),
        ({"mscale": 0.7, "mscale_all_dim": 1.3}, (0.07 * math.log(16) + 1) / (0.13 * math.log(16) + 1)),
    ],
)
def test_another_attention_factor_is_given_relative_to_that_of_llama_cpp(
    values: dict[str, float], attention_factor: float
) -> None:
    keys = _keys(_config(rope_parameters={**YARN, **values, "rope_theta": 1e6}))
    assert keys["rope.scaling.attn_factor"] == pytest.approx(attention_factor / (0.1 * math.log(16) + 1))


def test_llama3_scaling_becomes_a_tensor_of_factors() -> None:
    config = _config(head_dim=128, rope_theta=500000.0, rope_scaling=LLAMA3)
    assert not [key for key in _keys(config) if "scaling" in key]
    (extra,) = llama.FAMILY.extras(config)
    assert (extra.name, extra.transform.shape([])) == ("rope_freqs.weight", (64,))
    factors = rope.llama3_factors(config.rope, 128)
    for index, factor in enumerate(factors):
        wavelength = 2 * math.pi * 500000.0 ** (2 * index / 128)
        if wavelength < 8192 / 4:
            assert factor == 1
        elif wavelength > 8192:
            assert factor == 8
        else:
            smooth = (8192 / wavelength - 1) / 3
            assert factor == pytest.approx(1 / ((1 - smooth) / 8 + smooth), rel=1e-5)
    assert np.all(np.diff(factors) >= 0)


def test_without_llama3_scaling_there_is_no_extra_tensor() -> None:
    assert llama.FAMILY.extras(_config()) == []


def test_a_sliding_window_limits_the_context_and_is_told() -> None:
    config = _config("MistralForCausalLM", max_position_embeddings=32768, sliding_window=4096)
    assert _keys(config)["context_length"] == 4096
    assert "slides a window of 4096 tokens" in llama.notes(config)[0]
    assert llama.notes(_config("MistralForCausalLM", sliding_window=None)) == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"partial_rotary_factor": 0.5}, "a part of each head"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 4.0}}, "rope type 'longrope'.*known: default, linear"),
        ({"rope_scaling": {**YARN, "beta_fast": 16.0}}, "YaRN with beta_fast 16.0"),
        ({"rope_scaling": {**YARN, "truncate": False}}, "YaRN with truncate False"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}}, "a part of"),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        llama.refuse(_config(**values))


def test_heads_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(BadCheckpoint, match="32 heads of 128 with 5 key-value heads"):
        decoder.dimensions(_config(num_key_value_heads=5))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}, [False, True, False]),
        ({"sliding_window_pattern": 2}, [True, False, True]),
        ({"sliding_window_pattern": "LG"}, [True, False, True]),
    ],
)
def test_which_layers_slide_a_window_is_said_in_three_ways(values: dict[str, Any], expected: list[bool]) -> None:
    assert decoder.sliding_layers(Config({"num_hidden_layers": 3, **values})) == expected


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"layer_types": ["full_attention"]}, BadCheckpoint),
        ({"layer_types": ["full_attention", "linear_attention"]}, UnsupportedModel),
        ({"sliding_window_pattern": "LX"}, UnsupportedModel),
        ({}, BadCheckpoint),
    ],
)
def test_layers_that_nobody_knows_are_refused(values: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        decoder.sliding_layers(Config({"num_hidden_layers": 2, **values}))
