"""Seed-OSS: Llama's layers with a bias on queries, keys and values.

Reference: the `seed_oss` graph of llama.cpp, `SeedOssConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder, rope
from localllm.convert.families.usual import UsualDecoder


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `seed_oss` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("attention_out_bias", False)
    config.only("mlp_bias", False)
    rope.refuse(config, rope.WITHOUT_FACTORS)


FAMILY = UsualDecoder(
    arch="seed_oss",
    defaults={
        "SeedOssForCausalLM": {
            "vocab_size": 155136,
            "hidden_size": 4096,
            "intermediate_size": 27648,
            "num_hidden_layers": 64,
            "num_attention_heads": 80,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 524288,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
        },
    },
    refuse=refuse,
    layer_rules=(
        decoder.INPUT_NORM,
        *decoder.attention(optional_bias="qkv"),
        decoder.POST_ATTENTION_NORM,
        *decoder.feed_forward(),
    ),
)
