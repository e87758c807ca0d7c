"""Mixtral: Mistral's attention with experts; llama.cpp runs it as `llama`."""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Family, Rule, decoder, llama
from localllm.convert.header import Keys, u32


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name; an expert is as wide as the feed-forward layer would be."""
    return {**decoder.dimensions(config), "experts": config.count("num_local_experts")}


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Mistral and the numbers of experts."""
    return {
        **llama.hyperparameters(config, arch),
        f"{arch}.expert_count": u32(config.count("num_local_experts")),
        f"{arch}.expert_used_count": u32(config.count("num_experts_per_tok")),
    }


FAMILY = Family(
    arch="llama",
    defaults={
        "MixtralForCausalLM": {
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
    },
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=llama.refuse,
    notes=llama.notes,
    rules=decoder.EMBEDDINGS,
    layer_rules=(
        *decoder.NORMS,
        *decoder.attention(interleaved=True),
        Rule("blk.{i}.ffn_gate_inp.weight", f"{decoder.LAYER}.block_sparse_moe.gate.weight", ("experts", "hidden")),
        *decoder.experts("block_sparse_moe.experts", gate="w1", up="w3", down="w2", size="ffn"),
    ),
    ignored=(decoder.INV_FREQ,),
)
