"""MiniMax-M2: norms across all queries and all keys of a layer, positions on half of each head, experts by sigmoid.

Reference: the `minimax-m2` graph of llama.cpp, `MiniMaxM2Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, experts, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, u32


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `minimax-m2` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("tie_word_embeddings", False)
    config.only("scoring_func", "sigmoid")
    config.only("use_routing_bias", True)
    config.only("use_qk_norm", True)
    config.only("qk_norm_type", "per_layer")
    config.only("shared_intermediate_size", 0)
    rope.refuse(config, rope.WITHOUT_FACTORS, partial=True)


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama and what describes the experts."""
    return {
        **decoder.hyperparameters(config, arch),
        **experts.keys(config, arch),
        f"{arch}.expert_gating_func": u32(experts.SIGMOID),
        f"{arch}.expert_feed_forward_length": u32(config.count("intermediate_size")),
    }


_MOE = f"{decoder.LAYER}.block_sparse_moe"

FAMILY = UsualDecoder(
    arch="minimax-m2",
    defaults={
        "MiniMaxM2ForCausalLM": {
            "vocab_size": 200064,
            "hidden_size": 3072,
            "intermediate_size": 1536,
            "num_hidden_layers": 62,
            "num_attention_heads": 48,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "num_local_experts": 256,
            "num_experts_per_tok": 8,
            "max_position_embeddings": 196608,
            "rms_norm_eps": 1e-6,
            "rope_theta": 5000000.0,
        },
    },
    dimensions=experts.dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    layer_rules=(
        *decoder.NORMS,
        *decoder.attention(),
        *decoder.WHOLE_QK_NORMS,
        Rule("blk.{i}.ffn_gate_inp.weight", f"{_MOE}.gate.weight", ("experts", "hidden")),
        Rule("blk.{i}.exp_probs_b.bias", f"{_MOE}.e_score_correction_bias", ("experts",)),
        *experts.rules("block_sparse_moe.experts", gate="w1", up="w3", down="w2", size="ffn"),
    ),
)
