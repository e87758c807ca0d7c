"""HunYuan dense: Llama's layers with norms of queries and keys, and a base of frequencies raised by a power of alpha.

Reference: the `hunyuan-dense` graph of llama.cpp, `HunYuanDenseV1Config` and its rotary embedding of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32, u32

_WRONG_CONTEXT, _TRAINED_CONTEXT = 32768, 262144
"""Published files with alpha say the first where the models were trained for the second."""


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `hunyuan-dense` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("attention_bias", False)
    config.only("mlp_bias", False)
    config.only("use_qk_norm", True)
    config.only("use_cla", False)
    config.only("num_experts", 0, 1)
    rope.refuse(config, rope.WITHOUT_FACTORS)


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama; alpha becomes the base of the frequencies."""
    keys = decoder.hyperparameters(config, arch)
    if config.rope.kind == "dynamic" and config.rope.parameters.get("alpha"):
        size, alpha = decoder.head_dim(config), config.rope.number("alpha")
        keys[f"{arch}.rope.freq_base"] = f32(config.rope.theta * alpha ** (size / (size - 2)))
        if config.count("max_position_embeddings") == _WRONG_CONTEXT:
            keys[f"{arch}.context_length"] = u32(_TRAINED_CONTEXT)
    return keys


FAMILY = UsualDecoder(
    arch="hunyuan-dense",
    defaults={
        "HunYuanDenseV1ForCausalLM": {
            "vocab_size": 290943,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        },
    },
    hyperparameters=hyperparameters,
    refuse=refuse,
    layer_rules=(
        *decoder.NORMS,
        *decoder.attention(),
        Rule("blk.{i}.attn_q_norm.weight", f"{decoder.LAYER}.self_attn.query_layernorm.weight", ("head",)),
        Rule("blk.{i}.attn_k_norm.weight", f"{decoder.LAYER}.self_attn.key_layernorm.weight", ("head",)),
        *decoder.feed_forward(),
    ),
)
