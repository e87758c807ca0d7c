"""Qwen3: norms of the queries and keys of each head.

Reference: the `qwen3` graph of llama.cpp, `Qwen3Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, decoder, qwen2


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `qwen3` graph does not compute."""
    qwen2.refuse(config)
    config.only("attention_bias", False)


FAMILY = Family(
    arch="qwen3",
    defaults={
        "Qwen3ForCausalLM": {
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 22016,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "head_dim": 128,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
        },
    },
    dimensions=decoder.dimensions,
    hyperparameters=decoder.hyperparameters,
    refuse=refuse,
    rules=decoder.EMBEDDINGS,
    layer_rules=(*decoder.NORMS, *decoder.attention(), *decoder.QK_NORMS, *decoder.feed_forward()),
)
