"""Gemma 4: wide heads without a window, inputs for each layer, keys that are reused, experts, by the size of the model.

Reference: the `gemma4` graph of llama.cpp, `Gemma4TextConfig` and `Gemma4TextModel` of transformers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from localllm.convert.config import Config
from localllm.convert.families import Extra, Rule, decoder, gemma2, gemma3n, multimodal, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32, flags, i32s, u32
from localllm.convert.transforms import Given
from localllm.errors import BadCheckpoint, UnsupportedModel

_FULL, _SLIDING = "full_attention", "sliding_attention"

_NEVER = 1e30
"""What the frequency of numbers that are not rotated is divided by."""


def slides(config: Config) -> list[bool]:
    """Which layers slide a window; transformers takes the last one for a layer without, whatever is said of it."""
    return [*decoder.sliding_layers(config)[:-1], False]


def reuses(config: Config, layer: int) -> bool:
    """Whether a layer takes the keys and values of an earlier one."""
    return layer >= config.count("num_hidden_layers") - config.whole("num_kv_shared_layers")


def full_layer(config: Config) -> Config:
    """The configuration as layers without a window read it: they have heads of another size, and perhaps fewer.

    The last versions of transformers write what is their own in `per_layer_config`, the first ones in `global_head_dim`
    and `num_global_key_value_heads`.

    Raises:
        BadCheckpoint: `per_layer_config` is not an object of objects.
        UnsupportedModel: layers with the same attention differ in something, or in something else.
    """
    own: dict[str, Any] = {"head_dim": config.count("global_head_dim")}
    if config.flag("attention_k_eq_v") and config.get("num_global_key_value_heads") is not None:
        own["num_key_value_heads"] = config.count("num_global_key_value_heads")
    if config.get("per_layer_config") is not None:
        own = _by_layer(config)
    return Config({**config.for_layers(_FULL).values, **own})


def _by_layer(config: Config) -> dict[str, Any]:
    """What `per_layer_config` says of every layer without a window, and of no other."""
    found = config.get("per_layer_config")
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise BadCheckpoint(f"config.json: per_layer_config is {str(found)[:60]}, not an object for each layer.")
    by_layer = [found.get(str(layer), {}) for layer in range(config.count("num_hidden_layers"))]
    own: dict[str, Any] = by_layer[-1]
    alike = by_layer == [{} if window else own for window in slides(config)]
    if not alike or own.keys() - {"head_dim", "num_key_value_heads"}:
        raise UnsupportedModel(
            "config.json: in per_layer_config all layers without a window, and no other, must have the same "
            "head_dim and num_key_value_heads; llama.cpp has no keys for anything else."
        )
    return own


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gemma4` graph does not compute."""
    config.only("hidden_activation", "gelu_pytorch_tanh")
    config.only("attention_bias", False)
    config.only("use_bidirectional_attention", False, "vision")
    full = full_layer(config)
    rope.refuse(full, ("default", "proportional"), partial=True)
    if full.rope.number("factor", 1.0) != 1:
        raise UnsupportedModel("config.json: proportional rotary positions that are also scaled are not converted.")
    rope.refuse(config.for_layers(_SLIDING), ("default",))
    gemma3n.refuse_reuse(slides(config), config.count("num_hidden_layers") - config.whole("num_kv_shared_layers"))


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name; those of attention and feed-forward are a layer's own."""
    experts = config.flag("enable_moe_block")
    return {
        **decoder.dimensions(config),
        "input": config.whole("hidden_size_per_layer_input"),
        "inputs": config.count("num_hidden_layers") * config.whole("hidden_size_per_layer_input"),
        "input_vocab": config.count("vocab_size_per_layer_input"),
        "experts": config.count("num_experts") if experts else 0,
        "expert_ffn": config.count("moe_intermediate_size") if experts else 0,
    }


def layer_dimensions(config: Config, layer: int) -> dict[str, int]:
    """The sizes in a layer."""
    sizes = decoder.dimensions(config if slides(config)[layer] else full_layer(config))
    wide = config.flag("use_double_wide_mlp") and reuses(config, layer)
    return {**{name: sizes[name] for name in ("head", "q", "kv")}, "ffn": sizes["ffn"] * (2 if wide else 1)}


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama for layers without a window, and what is the others' own."""
    full, windows = full_layer(config), slides(config)
    wide, narrow = decoder.head_dim(full), decoder.head_dim(config)
    widths = [layer_dimensions(config, layer)["ffn"] for layer in range(len(windows))]
    heads = [decoder.kv_heads(config if window else full) for window in windows]
    keys = {
        **decoder.hyperparameters(full, arch),
        f"{arch}.feed_forward_length": i32s(widths) if len(set(widths)) > 1 else u32(widths[0]),
        f"{arch}.attention.head_count_kv": i32s(heads) if len(set(heads)) > 1 else u32(heads[0]),
        f"{arch}.attention.key_length_swa": u32(narrow),
        f"{arch}.attention.value_length_swa": u32(narrow),
        f"{arch}.rope.dimension_count": u32(wide),
        f"{arch}.rope.dimension_count_swa": u32(narrow),
        f"{arch}.rope.freq_base_swa": f32(config.for_layers(_SLIDING).rope.theta),
        f"{arch}.attention.sliding_window": u32(config.count("sliding_window")),
        f"{arch}.attention.sliding_window_pattern": flags(windows),
        f"{arch}.attention.shared_kv_layers": u32(config.whole("num_kv_shared_layers")),
        f"{arch}.embedding_length_per_layer_input": u32(config.whole("hidden_size_per_layer_input")),
        # Without the key llama.cpp would cap at 30.
        f"{arch}.final_logit_softcapping": f32(
            config.number("final_logit_softcapping") if config.get("final_logit_softcapping") is not None else 0.0
        ),
    }
    if config.flag("enable_moe_block"):
        keys[f"{arch}.expert_count"] = u32(config.count("num_experts"))
        keys[f"{arch}.expert_used_count"] = u32(config.count("top_k_experts"))
        keys[f"{arch}.expert_feed_forward_length"] = u32(config.count("moe_intermediate_size"))
    return keys


def extras(config: Config) -> list[Extra]:
    """The factors that keep the last numbers of each head unrotated in layers without a window.

    Source: `_compute_proportional_rope_parameters` of transformers; the graph wants the tensor in every model.
    """
    full = full_layer(config)
    head = decoder.head_dim(full)
    part = full.rope.number("partial_rotary_factor", 1.0) if full.rope.kind == "proportional" else 1.0
    rotated = int(part * head // 2)
    return [Extra("rope_freqs.weight", Given((1.0,) * rotated + (_NEVER,) * (head // 2 - rotated)))]


_LAYER, _BLOCK = decoder.LAYER, decoder.BLOCK


def _named(*letters: str) -> tuple[Rule, ...]:
    """Rules of attention whose matrix or norm has one of these letters."""
    rules = (*decoder.attention(), *decoder.QK_NORMS)
    return tuple(rule for rule in rules if rule.name.split(".attn_")[1][0] in letters)


_ATTENTION = (
    *_named("q", "o"),
    *decoder.only_when(lambda config, layer: not reuses(config, layer), _named("k")),
    *decoder.only_when(
        lambda config, layer: (
            not reuses(config, layer) and not (config.flag("attention_k_eq_v") and not slides(config)[layer])
        ),
        _named("v"),
    ),
    *decoder.only_when(reuses, tuple(replace(rule, optional=True) for rule in _named("k", "v"))),
)
"""Values are the keys where a layer without a window has none; what layers that reuse both still store is unread."""

_EXPERTS = decoder.only_when(
    lambda config, _: config.flag("enable_moe_block"),
    (
        Rule(f"{_BLOCK}.ffn_gate_inp.weight", f"{_LAYER}.router.proj.weight", ("experts", "hidden")),
        Rule(f"{_BLOCK}.ffn_gate_inp.scale", f"{_LAYER}.router.scale", ("hidden",)),
        Rule(
            f"{_BLOCK}.ffn_gate_up_exps.weight", f"{_LAYER}.experts.gate_up_proj", ("experts", "2 expert_ffn", "hidden")
        ),
        Rule(f"{_BLOCK}.ffn_down_exps.weight", f"{_LAYER}.experts.down_proj", ("experts", "hidden", "expert_ffn")),
        Rule(f"{_BLOCK}.ffn_down_exps.scale", f"{_LAYER}.router.per_expert_scale", ("experts",)),
        Rule(f"{_BLOCK}.pre_ffw_norm_2.weight", f"{_LAYER}.pre_feedforward_layernorm_2.weight", ("hidden",)),
        Rule(f"{_BLOCK}.post_ffw_norm_1.weight", f"{_LAYER}.post_feedforward_layernorm_1.weight", ("hidden",)),
        Rule(f"{_BLOCK}.post_ffw_norm_2.weight", f"{_LAYER}.post_feedforward_layernorm_2.weight", ("hidden",)),
    ),
)
"""Experts beside the feed-forward layer; gate and up of each stay one matrix."""


def _where_inputs(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    return decoder.only_when(lambda config, _: config.whole("hidden_size_per_layer_input") > 0, rules)


_DEFAULTS = {
    "vocab_size": 262144,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 30,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "global_head_dim": 512,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {
        _FULL: {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0},
        _SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
    },
    "tie_word_embeddings": True,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
    "vocab_size_per_layer_input": 262144,
    "hidden_size_per_layer_input": 256,
}

_UNIFIED = {
    **_DEFAULTS,
    "sliding_window": 1024,
    "max_position_embeddings": 262144,
    "hidden_size_per_layer_input": 0,
}

FAMILY = UsualDecoder(
    arch="gemma4",
    defaults={
        "Gemma4ForCausalLM": _DEFAULTS,
        "Gemma4ForConditionalGeneration": _DEFAULTS,
        "Gemma4UnifiedForCausalLM": _UNIFIED,
        "Gemma4UnifiedForConditionalGeneration": _UNIFIED,
    },
    dimensions=dimensions,
    layer_dimensions=layer_dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    extras=extras,
    rules=(*decoder.EMBEDDINGS, *_where_inputs(gemma3n.INPUT_EMBEDDINGS)),
    layer_rules=(
        *gemma2.NORMS_AROUND,
        *_ATTENTION,
        *decoder.feed_forward(),
        *_EXPERTS,
        *_where_inputs(gemma3n.INPUTS),
        Rule(f"{_BLOCK}.layer_output_scale.weight", f"{_LAYER}.layer_scalar", (1,)),
    ),
    renames=multimodal.RENAMES,
    left_out=multimodal.LEFT_OUT,
)
