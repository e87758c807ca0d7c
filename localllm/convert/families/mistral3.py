"""Mistral Small 3.1 and Ministral 3, alone or inside a model that sees: Mistral's layers in a graph that can scale
queries by their position.

Reference: the `mistral3` graph of llama.cpp, `Mistral3Config`, `Ministral3Config` and `get_llama_4_attn_scale` of
transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import decoder, llama, multimodal
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32
from localllm.errors import UnsupportedModel

_BETA = "llama_4_scaling_beta"


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `mistral3` graph does not compute.

    Raises:
        UnsupportedModel: a setting, the latent attention of Mistral 4, or queries scaled by position without YaRN:
            llama.cpp takes the context that it names for the step.
    """
    llama.refuse(config)
    if config.get("kv_lora_rank") is not None:
        raise UnsupportedModel(f"config.json: kv_lora_rank in {config.architecture}: Mistral 4 is not converted.")
    if config.rope.parameters.get(_BETA) and config.rope.kind != "yarn":
        raise UnsupportedModel(
            f"config.json: {_BETA} with rope type {config.rope.kind!r}; llama.cpp scales queries by position with YaRN."
        )


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Mistral, and by how much queries grow each time that the trained context has passed."""
    keys = llama.hyperparameters(config, arch)
    if config.rope.parameters.get(_BETA):
        keys[f"{arch}.attention.temperature_scale"] = f32(config.rope.number(_BETA))
    return keys


_DEFAULTS = {**llama.DEFAULTS["MistralForCausalLM"], "vocab_size": 131072, "head_dim": 128, "rms_norm_eps": 1e-5}

FAMILY = UsualDecoder(
    arch="mistral3",
    defaults={
        "Mistral3ForConditionalGeneration": {
            **_DEFAULTS,
            "hidden_size": 5120,
            "intermediate_size": 32768,
            "num_hidden_layers": 40,
            "rope_theta": 1000000000.0,
        },
        "Ministral3ForCausalLM": {
            **_DEFAULTS,
            "num_hidden_layers": 34,
            "max_position_embeddings": 262144,
            "rope_theta": 1000000.0,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 16.0,
                "original_max_position_embeddings": 16384,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                _BETA: 0.1,
            },
        },
    },
    hyperparameters=hyperparameters,
    refuse=refuse,
    notes=llama.notes,
    layer_rules=(*decoder.NORMS, *decoder.attention(interleaved=True), *decoder.feed_forward()),
    renames=multimodal.RENAMES,
    left_out=multimodal.LEFT_OUT,
)
