"""SmolLM3: Llama's layers, every fourth of them without rotary positions.

Reference: the `smollm3` graph of llama.cpp, `SmolLM3Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.errors import UnsupportedModel

_EVERY = 4
"""The layers without positions that llama.cpp assumes; no key says otherwise."""


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `smollm3` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("use_sliding_window", False)
    config.only("attention_bias", False)
    config.only("mlp_bias", False)
    rope.refuse(config, rope.WITHOUT_FACTORS)
    layers = config.count("num_hidden_layers")
    assumed = [int((layer + 1) % _EVERY != 0) for layer in range(layers)]
    every = config.count("no_rope_layer_interval")
    found = config.get("no_rope_layers", [int((layer + 1) % every != 0) for layer in range(layers)])
    if found[:layers] != assumed:
        raise UnsupportedModel(
            f"config.json: no_rope_layers is {found}; llama.cpp leaves rotary positions out of every fourth layer."
        )


FAMILY = UsualDecoder(
    arch="smollm3",
    defaults={
        "SmolLM3ForCausalLM": {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 2000000.0,
            "no_rope_layer_interval": 4,
            "tie_word_embeddings": True,
        },
    },
    hyperparameters=decoder.llama_hyperparameters,
    refuse=refuse,
    layer_rules=(*decoder.NORMS, *decoder.attention(interleaved=True), *decoder.feed_forward()),
)
