"""Apertus: no gate in the feed-forward, and an activation (xIELU) with its own trained numbers in every layer.

Reference: the `apertus` graph of llama.cpp, `ApertusConfig` and `XIELUActivation` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, StoredKey, decoder, rope
from localllm.convert.families.usual import UsualDecoder


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `apertus` graph does not compute."""
    config.only("hidden_act", "xielu")
    config.only("tie_word_embeddings", False)
    config.only("mlp_bias", False)
    config.only("qk_norm", True)
    config.only("post_norm", False)
    rope.refuse(config)


FAMILY = UsualDecoder(
    arch="apertus",
    defaults={
        "ApertusForCausalLM": {
            "vocab_size": 131072,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 65536,
            "rms_norm_eps": 1e-5,
            "rope_theta": 12000000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "original_max_position_embeddings": 8192,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
        },
    },
    hyperparameters=decoder.llama_hyperparameters,
    stored_keys=tuple(
        StoredKey(f"xielu.{name}", f"{decoder.LAYER}.mlp.act_fn.{name}")
        for name in ("alpha_n", "alpha_p", "beta", "eps")
    ),
    refuse=refuse,
    layer_rules=(
        Rule("blk.{i}.attn_norm.weight", f"{decoder.LAYER}.attention_layernorm.weight", ("hidden",)),
        *decoder.attention(optional_bias="qkvo"),
        *decoder.QK_NORMS,
        Rule("blk.{i}.ffn_norm.weight", f"{decoder.LAYER}.feedforward_layernorm.weight", ("hidden",)),
        *decoder.feed_forward(("up", "down")),
    ),
)
