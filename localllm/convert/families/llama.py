"""Llama 1 to 3 and what shares its layers exactly: SmolLM, TinyLlama, Mistral 7B, and many fine-tunes.

Reference: the `llama` graph and hyperparameters of llama.cpp, and `LlamaConfig`, `MistralConfig` and the rotary
functions of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from localllm.convert.config import Config, Rope
from localllm.convert.families import Extra, Family, Rule
from localllm.convert.header import Keys, f32, text, u32
from localllm.convert.transforms import Given, Interleave, InterleaveVector
from localllm.errors import BadCheckpoint, UnsupportedModel

DEFAULTS = {
    "LlamaForCausalLM": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
    "MistralForCausalLM": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
}


def head_dim(config: Config) -> int:
    """Numbers in one head of attention."""
    return config.count("head_dim", config.count("hidden_size") // config.count("num_attention_heads"))


def dimensions(config: Config) -> Mapping[str, int]:
    """Sizes that the rules name."""
    heads = config.count("num_attention_heads")
    return {
        "layers": config.count("num_hidden_layers"),
        "vocab": config.count("vocab_size"),
        "hidden": config.count("hidden_size"),
        "ffn": config.count("intermediate_size"),
        "head": head_dim(config),
        "q": heads * head_dim(config),
        "kv": config.count("num_key_value_heads", heads) * head_dim(config),
    }


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `llama` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("partial_rotary_factor", 1, 1.0)
    config.only("rope_interleaved", False)
    rope = config.rope
    if rope.kind not in ROPE_KEYS:
        known = ", ".join(ROPE_KEYS)
        raise UnsupportedModel(f"config.json: rope type {rope.kind!r} is not converted for Llama; known: {known}.")
    if rope.parameters.get("partial_rotary_factor", 1) != 1:
        raise UnsupportedModel("config.json: rotary positions on a part of each head are not converted for Llama.")
    if rope.kind == "yarn":
        # What llama.cpp's `llama` graph takes for granted: it reads no key for these.
        for name, usual in (("beta_fast", 32), ("beta_slow", 1), ("truncate", True)):
            if rope.parameters.get(name) not in (None, usual):
                raise UnsupportedModel(
                    f"config.json: YaRN with {name} {rope.parameters[name]} is not what llama.cpp does."
                )
    heads, kv_heads = config.count("num_attention_heads"), dimensions(config)["kv"] // head_dim(config)
    if heads % kv_heads or head_dim(config) % 2:
        raise BadCheckpoint(
            f"config.json: {heads} heads of {head_dim(config)} with {kv_heads} key-value heads do not fit together."
        )


def context_length(config: Config) -> int:
    """The longest context for which llama.cpp and transformers compute the same.

    llama.cpp's `llama` graph attends to everything; up to the length of a sliding window that is no difference.
    """
    return min(config.count("max_position_embeddings"), config.count("sliding_window", 1 << 31))


def notes(config: Config) -> list[str]:
    """Where the GGUF promises less than the checkpoint does."""
    if context_length(config) < config.count("max_position_embeddings"):
        return [
            f"The model slides a window of {context_length(config)} tokens, llama.cpp does not for this "
            f"architecture: the context is limited to it."
        ]
    return []


def _rope_none(_: Rope, __: str) -> Keys:
    return {}


def _rope_linear(rope: Rope, arch: str) -> Keys:
    return {
        f"{arch}.rope.scaling.type": text("linear"),
        f"{arch}.rope.scaling.factor": f32(rope.number("factor")),
    }


def _rope_yarn(rope: Rope, arch: str) -> Keys:
    """YaRN. llama.cpp derives the factor of attention from `factor` itself; another one is given relative to that.

    Source: `_compute_yarn_parameters` of transformers; `llama_context` of llama.cpp, which ignores `yarn_attn_factor`.
    """
    factor = rope.number("factor")
    keys = {
        f"{arch}.rope.scaling.type": text("yarn"),
        f"{arch}.rope.scaling.factor": f32(factor),
        f"{arch}.rope.scaling.original_context_length": u32(int(rope.number("original_max_position_embeddings"))),
    }
    usual = _yarn_scale(factor, 1.0)
    wanted = usual
    if rope.parameters.get("attention_factor") is not None:
        wanted = rope.number("attention_factor")
    elif rope.parameters.get("mscale") and rope.parameters.get("mscale_all_dim"):
        wanted = _yarn_scale(factor, rope.number("mscale")) / _yarn_scale(factor, rope.number("mscale_all_dim"))
    if not math.isclose(wanted, usual, rel_tol=1e-6):
        keys[f"{arch}.rope.scaling.attn_factor"] = f32(wanted / usual)
    return keys


def _yarn_scale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


ROPE_KEYS = {
    "default": _rope_none,
    "linear": _rope_linear,
    # Scales only beyond max_position_embeddings, which is the context length that the GGUF names.
    "dynamic": _rope_none,
    "yarn": _rope_yarn,
    # The factors are a tensor, rope_freqs.
    "llama3": _rope_none,
}


def hyperparameters(config: Config) -> Keys:
    """The keys of the architecture, in the order of the reference converter."""
    sizes, arch, rope = dimensions(config), "llama", config.rope
    heads = config.count("num_attention_heads")
    return {
        f"{arch}.block_count": u32(sizes["layers"]),
        f"{arch}.context_length": u32(context_length(config)),
        f"{arch}.embedding_length": u32(sizes["hidden"]),
        f"{arch}.feed_forward_length": u32(sizes["ffn"]),
        f"{arch}.attention.head_count": u32(heads),
        f"{arch}.attention.head_count_kv": u32(config.count("num_key_value_heads", heads)),
        **ROPE_KEYS[rope.kind](rope, arch),
        f"{arch}.rope.freq_base": f32(rope.theta),
        f"{arch}.attention.layer_norm_rms_epsilon": f32(config.number("rms_norm_eps")),
        f"{arch}.attention.key_length": u32(sizes["head"]),
        f"{arch}.attention.value_length": u32(sizes["head"]),
        f"{arch}.vocab_size": u32(sizes["vocab"]),
        f"{arch}.rope.dimension_count": u32(sizes["head"]),
    }


def rope_factors(rope: Rope, size: int) -> tuple[float, ...]:
    """What each frequency of a head of `size` is divided by under `llama3` scaling.

    Source: `_compute_llama3_parameters` of transformers. Low frequencies are divided by `factor`, high ones kept, those
    between blended. In float32 and in the order of torch, which divides by multiplying with the reciprocal, so that the
    factors have the bits that the reference converter writes.
    """
    one, turn = np.float32(1), np.float32(2 * np.pi)
    factor, low, high = (np.float32(rope.number(n)) for n in ("factor", "low_freq_factor", "high_freq_factor"))
    context = np.float32(rope.number("original_max_position_embeddings"))
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    frequencies = one / np.power(rope.theta, exponents.astype(np.float64)).astype(np.float32)
    wavelengths = one / frequencies * turn
    smooth = (one / wavelengths * context - low) / (high - low)
    blended = one / ((one - smooth) / factor + smooth)
    factors = np.where(wavelengths > context / low, factor, blended)
    factors = np.where(wavelengths < context / high, one, factors)
    return tuple(float(value) for value in factors)


def extras(config: Config) -> list[Extra]:
    """The factors of `llama3` rope scaling."""
    if config.rope.kind != "llama3":
        return []
    return [Extra("rope_freqs.weight", Given(rope_factors(config.rope, head_dim(config))))]


def _interleave(sizes: Mapping[str, int]) -> Interleave:
    return Interleave(sizes["head"])


def _interleave_vector(sizes: Mapping[str, int]) -> InterleaveVector:
    return InterleaveVector(sizes["head"])


_LAYER, _BLOCK = "model.layers.{i}", "blk.{i}"

FAMILY = Family(
    arch="llama",
    defaults=DEFAULTS,
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    extras=extras,
    notes=notes,
    rules=(
        Rule("token_embd.weight", "model.embed_tokens.weight", ("vocab", "hidden")),
        Rule("output_norm.weight", "model.norm.weight", ("hidden",)),
        Rule("output.weight", "lm_head.weight", ("vocab", "hidden")),
    ),
    layer_rules=(
        Rule(f"{_BLOCK}.attn_norm.weight", f"{_LAYER}.input_layernorm.weight", ("hidden",)),
        Rule(f"{_BLOCK}.attn_q.weight", f"{_LAYER}.self_attn.q_proj.weight", ("q", "hidden"), _interleave),
        Rule(f"{_BLOCK}.attn_k.weight", f"{_LAYER}.self_attn.k_proj.weight", ("kv", "hidden"), _interleave),
        Rule(f"{_BLOCK}.attn_v.weight", f"{_LAYER}.self_attn.v_proj.weight", ("kv", "hidden")),
        Rule(f"{_BLOCK}.attn_output.weight", f"{_LAYER}.self_attn.o_proj.weight", ("hidden", "q")),
        Rule(f"{_BLOCK}.attn_q.bias", f"{_LAYER}.self_attn.q_proj.bias", ("q",), _interleave_vector, optional=True),
        Rule(f"{_BLOCK}.attn_k.bias", f"{_LAYER}.self_attn.k_proj.bias", ("kv",), _interleave_vector, optional=True),
        Rule(f"{_BLOCK}.attn_v.bias", f"{_LAYER}.self_attn.v_proj.bias", ("kv",), optional=True),
        Rule(f"{_BLOCK}.attn_output.bias", f"{_LAYER}.self_attn.o_proj.bias", ("hidden",), optional=True),
        Rule(f"{_BLOCK}.ffn_norm.weight", f"{_LAYER}.post_attention_layernorm.weight", ("hidden",)),
        Rule(f"{_BLOCK}.ffn_gate.weight", f"{_LAYER}.mlp.gate_proj.weight", ("ffn", "hidden")),
        Rule(f"{_BLOCK}.ffn_up.weight", f"{_LAYER}.mlp.up_proj.weight", ("ffn", "hidden")),
        Rule(f"{_BLOCK}.ffn_down.weight", f"{_LAYER}.mlp.down_proj.weight", ("hidden", "ffn")),
        Rule(f"{_BLOCK}.ffn_gate.bias", f"{_LAYER}.mlp.gate_proj.bias", ("ffn",), optional=True),
        Rule(f"{_BLOCK}.ffn_up.bias", f"{_LAYER}.mlp.up_proj.bias", ("ffn",), optional=True),
        Rule(f"{_BLOCK}.ffn_down.bias", f"{_LAYER}.mlp.down_proj.bias", ("hidden",), optional=True),
    ),
    # Frequencies that old checkpoints store although they follow from the configuration.
    ignored=(".rotary_emb.inv_freq",),
)
