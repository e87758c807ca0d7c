"""Gemma 3: Gemma 2 with norms of queries and keys instead of caps, five of six layers a window with a base of its own.

The larger models see as well; the GGUF holds their language model.

Reference: the `gemma3` graph of llama.cpp, `Gemma3TextConfig` and `Gemma3Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder, gemma2, multimodal, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32

_LARGE = 62
"""llama.cpp takes a model of so many layers for the one with 27 billion weights."""

_FULL, _SLIDING = "full_attention", "sliding_attention"


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `gemma3` graph does not compute."""
    gemma2.refuse_parts(config, _LARGE)
    config.only("use_bidirectional_attention", False)
    config.only("attn_logit_softcapping", None)
    refuse_rope(config)


def refuse_rope(config: Config) -> None:
    """Refuse rotary positions that llama.cpp does not compute: it scales those of layers without a window only."""
    rope.refuse(config.for_layers(_FULL), ("default", "linear"))
    rope.refuse(config.for_layers(_SLIDING), ("default",))


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama, the base of the layers with a window, and the window."""
    keys = decoder.hyperparameters(config.for_layers(_FULL), arch)
    if config.get("final_logit_softcapping") is not None:
        keys[f"{arch}.final_logit_softcapping"] = f32(config.number("final_logit_softcapping"))
    if any(decoder.sliding_layers(config)):
        keys[f"{arch}.rope.freq_base_swa"] = f32(config.for_layers(_SLIDING).rope.theta)
        keys |= gemma2.window(config, arch, every=6)
    return keys


DEFAULTS = {
    **gemma2.DEFAULTS,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "sliding_window_pattern": 6,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
}

FAMILY = UsualDecoder(
    arch="gemma3",
    defaults={"Gemma3ForCausalLM": DEFAULTS, "Gemma3ForConditionalGeneration": DEFAULTS},
    hyperparameters=hyperparameters,
    refuse=refuse,
    extras=lambda _: [],
    rules=decoder.norms_plus_one(decoder.EMBEDDINGS),
    layer_rules=(
        *decoder.norms_plus_one((*gemma2.NORMS_AROUND, *decoder.QK_NORMS)),
        *decoder.attention(),
        *decoder.feed_forward(),
    ),
    renames=multimodal.RENAMES,
    left_out=multimodal.LEFT_OUT,
)
