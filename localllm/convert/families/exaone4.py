"""EXAONE 4: norms after attention and feed-forward; the large model slides a window and rotates only there.

Reference: the `exaone4` graph of llama.cpp, `Exaone4Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys
from localllm.errors import UnsupportedModel

_SLIDES = 64
"""llama.cpp slides windows in a model of so many layers, and in no other."""


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `exaone4` graph does not compute."""
    decoder.refuse(config)
    decoder.whole_hidden(config)
    config.only("reorder_and_upcast_attn", False)
    slides, layers = config.get("sliding_window") is not None, config.count("num_hidden_layers")
    if slides != (layers == _SLIDES):
        raise UnsupportedModel(
            f"config.json: sliding_window is {config.get('sliding_window')} with {layers} layers; llama.cpp slides a "
            f"window in models of {_SLIDES} layers, and only there."
        )


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama and, where there is a window, which layers slide it."""
    keys = decoder.llama_hyperparameters(config, arch)
    if config.get("sliding_window") is not None:
        keys |= decoder.window(config, arch)
    return keys


FAMILY = UsualDecoder(
    arch="exaone4",
    defaults={
        "Exaone4ForCausalLM": {
            "vocab_size": 102400,
            "hidden_size": 4096,
            "intermediate_size": 16384,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "sliding_window_pattern": 4,
        },
    },
    hyperparameters=hyperparameters,
    refuse=refuse,
    layer_rules=(
        *decoder.attention(),
        *decoder.QK_NORMS,
        *decoder.POST_NORMS,
        *decoder.feed_forward(),
    ),
)
