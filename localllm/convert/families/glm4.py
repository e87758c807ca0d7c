"""GLM-4 9B (`glm`) and GLM-4-0414 (`glm4`, with two more norms): rotary positions on half of each head, gate and up
in one matrix.

Reference: the `chatglm` and `glm4` graphs of llama.cpp, `GlmConfig` and `Glm4Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, rope
from localllm.convert.families.usual import UsualDecoder

_DEFAULTS = {
    "vocab_size": 151552,
    "hidden_size": 4096,
    "intermediate_size": 13696,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1.5625e-07,
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
}


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `glm4` graph does not compute."""
    config.only("hidden_act", "silu")
    rope.refuse(config, rope.WITHOUT_FACTORS, partial=True)


def refuse_first(config: Config) -> None:
    """Refuse what llama.cpp's `chatglm` graph does not compute."""
    refuse(config)
    decoder.whole_hidden(config)


_LAYER_RULES = (
    *decoder.NORMS,
    *decoder.attention(optional_bias="qkv"),
    # One matrix in the GGUF as well: the graphs split its product, the gate first.
    Rule("blk.{i}.ffn_up.weight", f"{decoder.LAYER}.mlp.gate_up_proj.weight", ("2 ffn", "hidden")),
    Rule("blk.{i}.ffn_down.weight", f"{decoder.LAYER}.mlp.down_proj.weight", ("hidden", "ffn")),
)

FAMILIES = (
    UsualDecoder(
        arch="chatglm",
        defaults={"GlmForCausalLM": _DEFAULTS},
        refuse=refuse_first,
        layer_rules=_LAYER_RULES,
    ),
    UsualDecoder(
        arch="glm4",
        defaults={"Glm4ForCausalLM": _DEFAULTS},
        refuse=refuse,
        layer_rules=(
            *_LAYER_RULES,
            Rule("blk.{i}.post_attention_norm.weight", f"{decoder.LAYER}.post_self_attn_layernorm.weight", ("hidden",)),
            Rule("blk.{i}.post_ffw_norm.weight", f"{decoder.LAYER}.post_mlp_layernorm.weight", ("hidden",)),
        ),
    ),
)
