"""Granite: Llama's layers, with what goes in, through and out multiplied by constants; also with experts.

Reference: the `granite` and `granitemoe` graphs of llama.cpp, `GraniteConfig` and its MoE variants of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, experts, llama
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32, u32

_DEFAULTS = {
    **llama.DEFAULTS["LlamaForCausalLM"],
    "embedding_multiplier": 1.0,
    "logits_scaling": 1.0,
    "residual_multiplier": 1.0,
    "attention_multiplier": 1.0,
}

_EXPERT_DEFAULTS = {**_DEFAULTS, "num_local_experts": 8, "num_experts_per_tok": 2}


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama and the constants."""
    return {
        **decoder.llama_hyperparameters(config, arch),
        f"{arch}.attention.scale": f32(config.number("attention_multiplier")),
        f"{arch}.embedding_scale": f32(config.number("embedding_multiplier")),
        f"{arch}.residual_scale": f32(config.number("residual_multiplier")),
        f"{arch}.logit_scale": f32(config.number("logits_scaling")),
    }


def expert_hyperparameters(config: Config, arch: str) -> Keys:
    """The same with the numbers of experts."""
    shared = config.get("shared_intermediate_size")
    return {
        **hyperparameters(config, arch),
        **experts.keys(config, arch),
        **({f"{arch}.expert_shared_feed_forward_length": u32(shared)} if shared else {}),
    }


def expert_dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name; an expert is as wide as the feed-forward layer would be."""
    return {**experts.dimensions(config), "shared": config.get("shared_intermediate_size", 0)}


def _is_shared(config: Config, _: int) -> bool:
    return bool(config.get("shared_intermediate_size"))


_MOE = f"{decoder.LAYER}.block_sparse_moe"
_SHARED = f"{decoder.LAYER}.shared_mlp"

EXPERTS = (
    Rule("blk.{i}.ffn_gate_inp.weight", f"{_MOE}.router.layer.weight", ("experts", "hidden")),
    *experts.fused_rules(f"{_MOE}.input_linear.weight", f"{_MOE}.output_linear.weight", size="ffn"),
)

SHARED_EXPERT = decoder.only_when(
    _is_shared,
    (
        *decoder.fused(
            ("blk.{i}.ffn_gate_shexp.weight", "blk.{i}.ffn_up_shexp.weight"), f"{_SHARED}.input_linear.weight", "shared"
        ),
        Rule("blk.{i}.ffn_down_shexp.weight", f"{_SHARED}.output_linear.weight", ("hidden", "shared")),
    ),
)

FAMILIES = (
    UsualDecoder(
        arch="granite",
        defaults={"GraniteForCausalLM": _DEFAULTS},
        hyperparameters=hyperparameters,
        layer_rules=(
            *decoder.NORMS,
            *decoder.attention(optional_bias="qkvo", interleaved=True),
            *decoder.feed_forward(bias=True),
        ),
    ),
    UsualDecoder(
        arch="granitemoe",
        defaults={
            "GraniteMoeForCausalLM": _EXPERT_DEFAULTS,
            "GraniteMoeSharedForCausalLM": _EXPERT_DEFAULTS,
        },
        dimensions=expert_dimensions,
        hyperparameters=expert_hyperparameters,
        layer_rules=(
            *decoder.NORMS,
            *decoder.attention(optional_bias="qkvo", interleaved=True),
            *EXPERTS,
            *SHARED_EXPERT,
        ),
    ),
)
