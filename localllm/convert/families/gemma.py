"""Gemma 1: scaled embeddings, a gate with GELU, and norms stored as the difference from one."""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, decoder, rope

GELU_TANH = ("gelu_pytorch_tanh", "gelu")
"""Gemma's files say `gelu`, and its code has always computed the approximation with tanh."""


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gemma` graph does not compute."""
    config.only("hidden_act", *GELU_TANH)
    config.only("hidden_activation", *GELU_TANH)
    config.only("attention_bias", False)
    config.only("use_bidirectional_attention", False)
    config.only("tie_word_embeddings", True)
    rope.refuse(config)


FAMILY = Family(
    arch="gemma",
    defaults={
        "GemmaForCausalLM": {
            "vocab_size": 256000,
            "hidden_size": 3072,
            "intermediate_size": 24576,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "head_dim": 256,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "tie_word_embeddings": True,
        },
    },
    dimensions=decoder.dimensions,
    hyperparameters=decoder.hyperparameters,
    refuse=refuse,
    rules=decoder.norms_plus_one(decoder.EMBEDDINGS),
    layer_rules=(*decoder.norms_plus_one(decoder.NORMS), *decoder.attention(), *decoder.feed_forward()),
    ignored=(decoder.INV_FREQ,),
)
