"""Mixtral: Mistral's attention with experts; llama.cpp runs it as `llama`."""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, experts, llama
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Mistral and the numbers of experts."""
    return {**llama.hyperparameters(config, arch), **experts.keys(config, arch)}


FAMILY = UsualDecoder(
    arch="llama",
    defaults={
        "MixtralForCausalLM": {
            **llama.DEFAULTS["MistralForCausalLM"],
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
    },
    dimensions=experts.dimensions,
    hyperparameters=hyperparameters,
    refuse=llama.refuse,
    notes=llama.notes,
    layer_rules=(
        *decoder.NORMS,
        *decoder.attention(interleaved=True),
        Rule("blk.{i}.ffn_gate_inp.weight", f"{decoder.LAYER}.block_sparse_moe.gate.weight", ("experts", "hidden")),
        *experts.rules("block_sparse_moe.experts", gate="w1", up="w3", down="w2", size="ffn"),
    ),
)
