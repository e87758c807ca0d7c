"""Nemotron 4 and Minitron: squared ReLU, and layer norms that are stored as the difference from one.

Reference: the `nemotron` graph of llama.cpp, `NemotronConfig` of transformers.
"""

from __future__ import annotations

from functools import partial

from localllm.convert.config import Config
from localllm.convert.families import decoder, rope
from localllm.convert.families.usual import UsualDecoder


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `nemotron` graph does not compute."""
    config.only("hidden_act", "relu2")
    config.only("tie_word_embeddings", False)
    decoder.whole_hidden(config)
    rope.refuse(config, ("default", "linear"), partial=True)


FAMILY = UsualDecoder(
    arch="nemotron",
    defaults={
        "NemotronForCausalLM": {
            "vocab_size": 256000,
            "hidden_size": 6144,
            "intermediate_size": 24576,
            "num_hidden_layers": 32,
            "num_attention_heads": 48,
            "max_position_embeddings": 4096,
            "layer_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    },
    aliases={"norm_eps": "layer_norm_eps"},
    hyperparameters=partial(decoder.hyperparameters, epsilon="layer_norm_eps"),
    refuse=refuse,
    rules=(
        *decoder.EMBEDDING_AND_HEAD,
        *decoder.norms_plus_one(decoder.norm("output_norm", "model.norm")),
    ),
    layer_rules=(
        *decoder.norms_plus_one(decoder.norm("blk.{i}.attn_norm", f"{decoder.LAYER}.input_layernorm")),
        *decoder.norms_plus_one(decoder.norm("blk.{i}.ffn_norm", f"{decoder.LAYER}.post_attention_layernorm")),
        *decoder.attention(optional_bias="qkvo"),
        *decoder.feed_forward(("up", "down"), bias=True),
    ),
)
