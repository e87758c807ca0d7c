"""Qwen3-Next: three of four layers keep a state by the gated delta rule, the others have gated attention; experts.

The matrix of queries, keys, values and gates of the delta rule stands head by head in the checkpoint; the GGUF has the
gates apart. All norms but the one behind the state are stored as the difference from one.

Reference: the `qwen3next` graph of llama.cpp, `Qwen3NextConfig` and `Qwen3NextGatedDeltaNet` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, Sizes, decoder, experts, qwen_moe, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, flags, u32
from localllm.convert.transforms import Compute, Join, minus_exponential, regroup
from localllm.errors import BadCheckpoint

_LAYER, _BLOCK = decoder.LAYER, decoder.BLOCK


def keeps_state(config: Config) -> list[bool]:
    """Which layers have no attention but a state, by `layer_types` or by the older interval."""
    kinds = config.get("layer_types")
    if kinds is None:
        every = config.count("full_attention_interval")
        layers = range(1, config.count("num_hidden_layers") + 1)
        kinds = ["linear_attention" if layer % every else "full_attention" for layer in layers]
    return decoder.layers_of("linear_attention", config, kinds, other="full_attention")


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `qwen3next` graph does not compute."""
    config.only("hidden_act", "silu")
    config.only("attention_bias", False)
    config.only("norm_topk_prob", True)
    config.only("linear_value_head_dim", config.count("linear_key_head_dim"))
    qwen_moe.only_experts(config)
    rope.refuse(config, rope.WITHOUT_FACTORS, partial=True)


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name: `keys` and `values` are all heads of a layer that keeps a state.

    Raises:
        BadCheckpoint: heads of values that do not share the heads of keys evenly.
    """
    key_heads, value_heads = config.count("linear_num_key_heads"), config.count("linear_num_value_heads")
    if value_heads % key_heads:
        raise BadCheckpoint(f"config.json: {value_heads} heads of values cannot share {key_heads} heads of keys.")
    keys, values = key_heads * config.count("linear_key_head_dim"), value_heads * config.count("linear_value_head_dim")
    return {
        **qwen_moe.shared_dimensions(config),
        "key_heads": key_heads,
        "value_heads": value_heads,
        "value_head": config.count("linear_value_head_dim"),
        "keys": keys,
        "values": values,
        "qkv": 2 * keys + values,
        "qkvz": 2 * keys + 2 * values,
        "kernel": config.count("linear_conv_kernel_dim"),
    }


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Qwen with experts, and what describes the states and which layers keep them."""
    sizes = dimensions(config)
    return {
        **qwen_moe.shared_hyperparameters(config, arch),
        f"{arch}.ssm.conv_kernel": u32(sizes["kernel"]),
        f"{arch}.ssm.state_size": u32(config.count("linear_key_head_dim")),
        f"{arch}.ssm.group_count": u32(sizes["key_heads"]),
        f"{arch}.ssm.time_step_rank": u32(sizes["value_heads"]),
        f"{arch}.ssm.inner_size": u32(sizes["values"]),
        f"{arch}.attention.recurrent_layers": flags(keeps_state(config)),
    }


def _by_kind(sizes: Sizes) -> Join:
    """The rows of each head of keys, as all queries, all keys, all values, all gates."""
    heads = sizes["key_heads"]
    keys, values = sizes["keys"] // heads, sizes["values"] // heads
    return regroup(heads, (keys, keys, values, values))


def _queries_keys_values(sizes: Sizes) -> Join:
    return Join(_by_kind(sizes).segments[: 3 * sizes["key_heads"]], (sizes["qkv"], sizes["hidden"]))


def _gates(sizes: Sizes) -> Join:
    return Join(_by_kind(sizes).segments[3 * sizes["key_heads"] :], (sizes["values"], sizes["hidden"]))


_DELTA = f"{_LAYER}.linear_attn"

STATE = (
    Rule(f"{_BLOCK}.attn_qkv.weight", f"{_DELTA}.in_proj_qkvz.weight", ("qkvz", "hidden"), _queries_keys_values),
    Rule(f"{_BLOCK}.attn_gate.weight", f"{_DELTA}.in_proj_qkvz.weight", ("qkvz", "hidden"), _gates),
    Rule(f"{_BLOCK}.ssm_ba.weight", f"{_DELTA}.in_proj_ba.weight", ("2 value_heads", "hidden")),
    decoder.convolution(f"{_BLOCK}.ssm_conv1d.weight", f"{_DELTA}.conv1d.weight", "qkv"),
    Rule(f"{_BLOCK}.ssm_dt.bias", f"{_DELTA}.dt_bias", ("value_heads",)),
    Rule(f"{_BLOCK}.ssm_a", f"{_DELTA}.A_log", ("value_heads",), lambda _: Compute(minus_exponential)),
    Rule(f"{_BLOCK}.ssm_norm.weight", f"{_DELTA}.norm.weight", ("value_head",)),
    Rule(f"{_BLOCK}.ssm_out.weight", f"{_DELTA}.out_proj.weight", ("hidden", "values")),
)

ATTENTION = (
    # Each head has its queries and then as many gates, in the GGUF as well.
    Rule(f"{_BLOCK}.attn_q.weight", f"{_LAYER}.self_attn.q_proj.weight", ("2 q", "hidden")),
    *(rule for rule in decoder.attention() if not rule.name.endswith("attn_q.weight")),
    *decoder.norms_plus_one(decoder.QK_NORMS),
)

FAMILY = UsualDecoder(
    arch="qwen3next",
    defaults={
        "Qwen3NextForCausalLM": {
            "vocab_size": 151936,
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "num_hidden_layers": 48,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "head_dim": 256,
            "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.25,
            "full_attention_interval": 4,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
            "num_experts_per_tok": 10,
            "num_local_experts": 512,
        },
    },
    aliases=experts.OLDER_NAMES,
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    rules=decoder.norms_plus_one(decoder.EMBEDDINGS),
    layer_rules=(
        *decoder.norms_plus_one((decoder.INPUT_NORM, decoder.POST_ATTENTION_NORM)),
        *decoder.only_when(lambda config, layer: keeps_state(config)[layer], STATE),
        *decoder.only_when(lambda config, layer: not keeps_state(config)[layer], ATTENTION),
        *qwen_moe.EXPERTS,
        *qwen_moe.SHARED_EXPERT,
    ),
    left_out=((r"^(model\.)?mtp\.", "The layers that predict the tokens after the next are left out"),),
)
