"""Qwen's models with experts: Qwen1.5-MoE and Qwen2 with one that every token passes, gated, and Qwen3 without.

Reference: the `qwen2moe` and `qwen3moe` graphs of llama.cpp, `Qwen2MoeConfig` and `Qwen3MoeConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, experts, qwen2, qwen3
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, u32

_DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "num_hidden_layers": 24,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "norm_topk_prob": False,
}


def only_experts(config: Config) -> None:
    """Refuse layers without experts between those with: llama.cpp knows none in these architectures."""
    config.only("decoder_sparse_step", 1)
    config.only("mlp_only_layers", [])


def refuse_second(config: Config) -> None:
    """Refuse what llama.cpp's `qwen2moe` graph does not compute; it needs a head of its own."""
    qwen2.refuse(config)
    only_experts(config)
    decoder.whole_hidden(config)
    config.only("norm_topk_prob", False)
    config.only("tie_word_embeddings", False)


def refuse_third(config: Config) -> None:
    """Refuse what llama.cpp's `qwen3moe` graph does not compute."""
    qwen3.refuse(config)
    only_experts(config)
    config.only("norm_topk_prob", True)


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name, of experts as well."""
    return {**experts.dimensions(config), "expert_ffn": config.count("moe_intermediate_size")}


def shared_dimensions(config: Config) -> dict[str, int]:
    """The same and that of the expert that every token passes."""
    return {**dimensions(config), "shared_ffn": config.count("shared_expert_intermediate_size")}


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama and what describes the experts."""
    return {
        **decoder.hyperparameters(config, arch),
        **experts.keys(config, arch),
        f"{arch}.expert_feed_forward_length": u32(config.count("moe_intermediate_size")),
    }


def shared_hyperparameters(config: Config, arch: str) -> Keys:
    """The same and the width of the expert that every token passes."""
    width = config.count("shared_expert_intermediate_size")
    return {**hyperparameters(config, arch), f"{arch}.expert_shared_feed_forward_length": u32(width)}


EXPERTS = (
    Rule("blk.{i}.ffn_gate_inp.weight", f"{decoder.LAYER}.mlp.gate.weight", ("experts", "hidden")),
    *experts.rules(),
)

SHARED_EXPERT = (
    Rule("blk.{i}.ffn_gate_inp_shexp.weight", f"{decoder.LAYER}.mlp.shared_expert_gate.weight", (1, "hidden")),
    *experts.shared_rules("mlp.shared_expert"),
)

FAMILIES = (
    UsualDecoder(
        arch="qwen2moe",
        defaults={
            "Qwen2MoeForCausalLM": {
                **_DEFAULTS,
                "intermediate_size": 5632,
                "num_attention_heads": 16,
                "num_key_value_heads": 16,
                "moe_intermediate_size": 1408,
                "shared_expert_intermediate_size": 5632,
                "num_experts_per_tok": 4,
                "num_local_experts": 60,
            },
        },
        aliases=experts.OLDER_NAMES,
        dimensions=shared_dimensions,
        hyperparameters=shared_hyperparameters,
        refuse=refuse_second,
        # A configuration may leave the biases out.
        layer_rules=(*decoder.NORMS, *decoder.attention(optional_bias="qkv"), *EXPERTS, *SHARED_EXPERT),
    ),
    UsualDecoder(
        arch="qwen3moe",
        defaults={
            "Qwen3MoeForCausalLM": {
                **_DEFAULTS,
                "intermediate_size": 6144,
                "num_attention_heads": 32,
                "num_key_value_heads": 4,
                "moe_intermediate_size": 768,
                "num_experts_per_tok": 8,
                "num_local_experts": 128,
            },
        },
        aliases=experts.OLDER_NAMES,
        dimensions=dimensions,
        hyperparameters=hyperparameters,
        refuse=refuse_third,
        layer_rules=(*decoder.NORMS, *decoder.attention(), *decoder.QK_NORMS, *EXPERTS),
    ),
)
