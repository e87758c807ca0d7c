"""Llama 1 to 3 and what shares its layers exactly: SmolLM, TinyLlama, Mistral 7B, and many fine-tunes.

Reference: the `llama` graph and hyperparameters of llama.cpp, and `LlamaConfig` and `MistralConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, u32

_MISTRAL = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
}

DEFAULTS = {
    "LlamaForCausalLM": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    },
    "MistralForCausalLM": _MISTRAL,
    "MinistralForCausalLM": {**_MISTRAL, "sliding_window": 4096},
}


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `llama` graph does not compute."""
    decoder.refuse(config)
    config.only("rope_interleaved", False)


def hyperparameters(config: Config, arch: str) -> Keys:
    """The keys, with the context up to which llama.cpp and transformers compute the same."""
    return {
        **decoder.llama_hyperparameters(config, arch),
        f"{arch}.context_length": u32(context_length(config)),
    }


def context_length(config: Config) -> int:
    """The longest context for which llama.cpp and transformers compute the same.

    llama.cpp's `llama` graph attends to everything; up to the length of a sliding window that is no difference.
    """
    return min(config.count("max_position_embeddings"), config.count("sliding_window", 1 << 31))


def notes(config: Config) -> list[str]:
    """Where the GGUF promises less than the checkpoint does."""
    if context_length(config) < config.count("max_position_embeddings"):
        return [
            f"The model slides a window of {context_length(config)} tokens, llama.cpp does not for this "
            f"architecture: the context is limited to it"
        ]
    return []


FAMILY = UsualDecoder(
    arch="llama",
    defaults=DEFAULTS,
    hyperparameters=hyperparameters,
    refuse=refuse,
    notes=notes,
    layer_rules=(
        *decoder.NORMS,
        *decoder.attention(optional_bias="qkvo", interleaved=True),
        *decoder.feed_forward(bias=True),
    ),
)
