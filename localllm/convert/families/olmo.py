"""OLMo 1: norms without weights. OLMo 2 and 3: norms behind attention and feed-forward. OLMoE: experts.

OLMo 3 is OLMo 2 with a window in three of four layers, and positions that are scaled in the others alone.

Reference: the `olmo`, `olmo2` and `olmoe` graphs of llama.cpp, `OlmoConfig`, `Olmo2Config`, `Olmo3Config` and
`OlmoeConfig` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, experts, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32
from localllm.errors import UnsupportedModel

_FIRST_EPSILON = 1e-5
"""What transformers takes for the norms of OLMo 1; no key says otherwise."""

_FULL = "full_attention"

_DEFAULTS = {
    "vocab_size": 50304,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
}


def refuse(config: Config) -> None:
    """Refuse what none of the three graphs of llama.cpp computes."""
    config.only("hidden_act", "silu")
    config.only("attention_bias", False)
    decoder.whole_hidden(config)
    rope.refuse(config, rope.WITHOUT_FACTORS)


def refuse_second(config: Config) -> None:
    """Refuse what OLMo 2 has not; its graph needs a head of its own."""
    refuse(config)
    config.only("tie_word_embeddings", False)


def refuse_third(config: Config) -> None:
    """Refuse positions of the layers with a window that are scaled, or of another base than the other layers'.

    Raises:
        UnsupportedModel: either of them, or a setting.
    """
    full, sliding = config.for_layers(_FULL), config.for_layers("sliding_attention")
    refuse_second(full)
    if sliding is not config:
        rope.refuse(sliding, ("default",))
        if sliding.rope.theta != full.rope.theta:
            raise UnsupportedModel(
                f"config.json: rope_theta is {sliding.rope.theta:g} in layers with a window and {full.rope.theta:g} in "
                f"others; llama.cpp has one for all in {config.architecture}."
            )


def refuse_experts(config: Config) -> None:
    """Refuse what llama.cpp's `olmoe` graph does not compute: it weighs experts as they come and clips nothing.

    Raises:
        UnsupportedModel: a setting, or fewer key-value heads than heads.
    """
    refuse_second(config)
    config.only("norm_topk_prob", False)
    if config.get("clip_qkv") is not None:
        raise UnsupportedModel(
            f"config.json: clip_qkv is {config.get('clip_qkv')}; llama.cpp clips nothing in {config.architecture}."
        )
    config.only("num_key_value_heads", config.count("num_attention_heads"))


def hyperparameters(config: Config, arch: str) -> Keys:
    """The usual ones with a layer norm, and where queries, keys and values are clipped."""
    keys = decoder.hyperparameters(config, arch, epsilon="layer_norm_eps")
    if config.get("clip_qkv") is not None:
        keys[f"{arch}.attention.clamp_kqv"] = f32(config.number("clip_qkv"))
    return keys


def sliding_hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama, as layers without a window have them, and the window."""
    return {**decoder.hyperparameters(config.for_layers(_FULL), arch), **decoder.window(config, arch)}


def expert_hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama and the numbers of experts."""
    return {**decoder.hyperparameters(config, arch), **experts.keys(config, arch)}


_SECOND = (
    *decoder.attention(),
    *decoder.WHOLE_QK_NORMS,
    *decoder.POST_NORMS,
    *decoder.feed_forward(),
)

FAMILIES = (
    UsualDecoder(
        arch="olmo",
        defaults={"OlmoForCausalLM": {**_DEFAULTS, "layer_norm_eps": _FIRST_EPSILON}},
        hyperparameters=hyperparameters,
        refuse=refuse,
        rules=decoder.EMBEDDING_AND_HEAD,
        layer_rules=(*decoder.attention(interleaved=True), *decoder.feed_forward()),
    ),
    UsualDecoder(
        arch="olmo2",
        defaults={"Olmo2ForCausalLM": {**_DEFAULTS, "rms_norm_eps": 1e-5}},
        refuse=refuse_second,
        layer_rules=_SECOND,
    ),
    UsualDecoder(
        arch="olmo2",
        defaults={
            "Olmo3ForCausalLM": {
                **_DEFAULTS,
                "rms_norm_eps": 1e-5,
                "rope_theta": 500000.0,
                "sliding_window": 4096,
                "sliding_window_pattern": 4,
            }
        },
        hyperparameters=sliding_hyperparameters,
        refuse=refuse_third,
        extras=lambda _: [],
        layer_rules=_SECOND,
    ),
    UsualDecoder(
        arch="olmoe",
        defaults={
            "OlmoeForCausalLM": {
                **_DEFAULTS,
                "hidden_size": 2048,
                "intermediate_size": 2048,
                "num_hidden_layers": 16,
                "num_attention_heads": 16,
                "max_position_embeddings": 4096,
                "rms_norm_eps": 1e-5,
                "num_local_experts": 64,
                "num_experts_per_tok": 8,
            }
        },
        aliases=experts.OLDER_NAMES,
        dimensions=experts.dimensions,
        hyperparameters=expert_hyperparameters,
        refuse=refuse_experts,
        layer_rules=(
            *decoder.NORMS,
            *decoder.attention(),
            *decoder.WHOLE_QK_NORMS,
            Rule("blk.{i}.ffn_gate_inp.weight", f"{decoder.LAYER}.mlp.gate.weight", ("experts", "hidden")),
            *experts.rules(size="ffn"),
        ),
    ),
)
