"""Qwen2 and Qwen2.5: Llama's layers with a bias on queries, keys and values, rotated in halves.

Reference: the `qwen2` graph of llama.cpp, `Qwen2Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder, rope
from localllm.convert.families.usual import UsualDecoder


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's graphs for Qwen do not compute: they read no factors of rope and slide no window."""
    config.only("hidden_act", "silu")
    config.only("use_sliding_window", False)
    rope.refuse(config, rope.WITHOUT_FACTORS)


DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}

FAMILY = UsualDecoder(
    arch="qwen2",
    defaults={"Qwen2ForCausalLM": DEFAULTS},
    refuse=refuse,
    layer_rules=(*decoder.NORMS, *decoder.attention(bias="qkv"), *decoder.feed_forward()),
)
