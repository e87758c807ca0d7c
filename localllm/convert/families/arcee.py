"""Arcee's AFM: Llama's layers, with a squared ReLU and no gate in the feed-forward.

Reference: the `arcee` graph of llama.cpp, `ArceeConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder, rope
from localllm.convert.families.usual import UsualDecoder


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `arcee` graph does not compute."""
    config.only("hidden_act", "relu2")
    config.only("attention_bias", False)
    config.only("mlp_bias", False)
    rope.refuse(config)


FAMILY = UsualDecoder(
    arch="arcee",
    defaults={
        "ArceeForCausalLM": {
            "vocab_size": 32000,
            "hidden_size": 2560,
            "intermediate_size": 18432,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        },
    },
    hyperparameters=decoder.llama_hyperparameters,
    refuse=refuse,
    layer_rules=(
        *decoder.NORMS,
        *decoder.attention(interleaved=True),
        *decoder.feed_forward(("up", "down")),
    ),
)
