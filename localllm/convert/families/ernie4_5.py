"""ERNIE 4.5, dense and with experts: Llama's layers as transformers rotates GLM's, neighbours together.

Reference: the `ernie4_5` and `ernie4_5-moe` graphs of llama.cpp, `Ernie4_5Config` and its MoE variant of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, experts, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, u32
from localllm.convert.transforms import Flatten
from localllm.errors import UnsupportedModel

_DENSE = {
    "vocab_size": 103424,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 18,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}

_EXPERTS = {
    "vocab_size": 103424,
    "hidden_size": 2560,
    "intermediate_size": 12288,
    "num_hidden_layers": 28,
    "num_attention_heads": 20,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "moe_intermediate_size": 1536,
    "moe_k": 6,
    "moe_num_experts": 64,
    "moe_num_shared_experts": 2,
    "moe_layer_start_index": 1,
    "moe_layer_end_index": -1,
    "moe_layer_interval": 1,
}


def refuse(config: Config) -> None:
    """Refuse what neither graph of llama.cpp computes."""
    config.only("hidden_act", "silu")
    config.only("use_bias", False)
    rope.refuse(config, rope.WITHOUT_FACTORS)


def refuse_experts(config: Config) -> None:
    """Refuse experts in other layers than all from the first with experts on."""
    refuse(config)
    config.only("moe_layer_interval", 1)
    config.only("moe_layer_end_index", -1, config.count("num_hidden_layers") - 1)
    for name in ("moe_num_experts", "moe_intermediate_size", "moe_layer_start_index"):
        if isinstance(config.get(name), list):
            raise UnsupportedModel(f"config.json: {name} is a list; experts for images as well are not converted.")


def _shared(config: Config) -> int:
    """How many experts every token passes."""
    return config.whole("moe_num_shared_experts")


def expert_dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name."""
    width = config.count("moe_intermediate_size")
    return {
        **decoder.dimensions(config),
        "experts": config.count("moe_num_experts"),
        "expert_ffn": width,
        "shared_ffn": width * _shared(config),
    }


def expert_hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama and what describes the experts."""
    sizes = expert_dimensions(config)
    return {
        **decoder.hyperparameters(config, arch),
        **experts.keys(config, arch, count="moe_num_experts", used="moe_k"),
        f"{arch}.expert_feed_forward_length": u32(sizes["expert_ffn"]),
        f"{arch}.expert_shared_count": u32(_shared(config)),
        f"{arch}.expert_shared_feed_forward_length": u32(sizes["shared_ffn"]),
        f"{arch}.interleave_moe_layer_step": u32(config.count("moe_layer_interval")),
        f"{arch}.leading_dense_block_count": u32(config.whole("moe_layer_start_index")),
    }


def _has_experts(config: Config, layer: int) -> bool:
    return layer >= config.whole("moe_layer_start_index")


_MLP = f"{decoder.LAYER}.mlp"

EXPERTS = (
    Rule("blk.{i}.ffn_gate_inp.weight", f"{_MLP}.gate.weight", ("experts", "hidden")),
    Rule(
        "blk.{i}.exp_probs_b.bias",
        f"{_MLP}.moe_statics.e_score_correction_bias",
        (1, "experts"),
        lambda sizes: Flatten(sizes["experts"]),
    ),
    *experts.rules(),
)

FAMILIES = (
    UsualDecoder(
        arch="ernie4_5",
        defaults={"Ernie4_5ForCausalLM": _DENSE, "Ernie4_5_ForCausalLM": _DENSE},
        refuse=refuse,
        layer_rules=(*decoder.NORMS, *decoder.attention(), *decoder.feed_forward()),
    ),
    UsualDecoder(
        arch="ernie4_5-moe",
        defaults={"Ernie4_5_MoeForCausalLM": _EXPERTS},
        dimensions=expert_dimensions,
        hyperparameters=expert_hyperparameters,
        refuse=refuse_experts,
        layer_rules=(
            *decoder.NORMS,
            *decoder.attention(),
            *decoder.only_when(lambda config, layer: not _has_experts(config, layer), decoder.feed_forward()),
            *decoder.only_when(_has_experts, EXPERTS),
            *decoder.only_when(
                lambda config, layer: _has_experts(config, layer) and _shared(config) > 0, experts.shared_rules()
            ),
        ),
        left_out=(
            (r"^model\.mtp_", "The layers that predict several tokens at once are left out: llama.cpp runs none"),
        ),
    ),
)
