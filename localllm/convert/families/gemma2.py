"""Gemma 2: norms before and after attention and feed-forward, capped scores and logits, every second layer a window.

Reference: the `gemma2` graph of llama.cpp, `Gemma2Config` of transformers.
"""

from __future__ import annotations

import math

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32, flags, u32
from localllm.errors import UnsupportedModel

_LARGE = 46
"""llama.cpp takes a model of so many layers for the one with 27 billion weights."""


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gemma2` graph does not compute."""
    refuse_parts(config, _LARGE)
    config.only("use_bidirectional_attention", False)
    config.only("tie_word_embeddings", True)
    rope.refuse(config, rope.WITHOUT_FACTORS)
    refuse_uncapped(config, "attn_logit_softcapping", "final_logit_softcapping")


def refuse_uncapped(config: Config, *names: str) -> None:
    """Refuse scores or logits that are not capped, where llama.cpp always does.

    Raises:
        UnsupportedModel: one of the caps is null.
    """
    for name in names:
        if config.get(name) is None:
            raise UnsupportedModel(f"config.json: {name} is null; llama.cpp always caps in {config.architecture}.")


def refuse_parts(config: Config, large: int = 0) -> None:
    """Refuse what no graph of llama.cpp for Gemma 2 and 3 computes. A model of `large` layers is the largest.

    Raises:
        UnsupportedModel: another activation, biases, or another scale of attention than that of llama.cpp, which reads
            none from the file.
    """
    config.only("hidden_activation", "gelu_pytorch_tanh")
    config.only("attention_bias", False)
    usual = decoder.head_dim(config)
    if config.count("num_hidden_layers") == large:
        usual = config.count("hidden_size") // config.count("num_attention_heads")
    scalar = config.number("query_pre_attn_scalar")
    if not math.isclose(scalar, usual):
        raise UnsupportedModel(
            f"config.json: query_pre_attn_scalar is {scalar:g}; llama.cpp scales attention here by {usual}."
        )


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama, the caps and the window."""
    return {
        **decoder.hyperparameters(config, arch),
        f"{arch}.attn_logit_softcapping": f32(config.number("attn_logit_softcapping")),
        f"{arch}.final_logit_softcapping": f32(config.number("final_logit_softcapping")),
        **window(config, arch, every=2),
    }


def window(config: Config, arch: str, every: int) -> Keys:
    """The keys of the sliding window; which layers slide it only where that is not all but each `every`th."""
    slides = decoder.sliding_layers(config)
    keys = {f"{arch}.attention.sliding_window": u32(config.count("sliding_window"))}
    if slides != [layer % every != 0 for layer in range(1, len(slides) + 1)]:
        keys[f"{arch}.attention.sliding_window_pattern"] = flags(slides)
    return keys


NORMS_AROUND = (
    Rule("blk.{i}.attn_norm.weight", f"{decoder.LAYER}.input_layernorm.weight", ("hidden",)),
    Rule("blk.{i}.post_attention_norm.weight", f"{decoder.LAYER}.post_attention_layernorm.weight", ("hidden",)),
    Rule("blk.{i}.ffn_norm.weight", f"{decoder.LAYER}.pre_feedforward_layernorm.weight", ("hidden",)),
    Rule("blk.{i}.post_ffw_norm.weight", f"{decoder.LAYER}.post_feedforward_layernorm.weight", ("hidden",)),
)
"""The norms before and after attention and feed-forward."""

DEFAULTS = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 2,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}

FAMILY = UsualDecoder(
    arch="gemma2",
    defaults={"Gemma2ForCausalLM": DEFAULTS},
    hyperparameters=hyperparameters,
    refuse=refuse,
    rules=decoder.norms_plus_one(decoder.EMBEDDINGS),
    layer_rules=(*decoder.norms_plus_one(NORMS_AROUND), *decoder.attention(), *decoder.feed_forward()),
)
