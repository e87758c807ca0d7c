"""Cohere's Command R and Aya: attention and feed-forward side by side, layer norms without biases, scaled logits.

Command R7B and what followed (`cohere2`) slide a window, and only there have rotary positions.

Reference: the `command-r` and `cohere2` graphs of llama.cpp, `CohereConfig` and `Cohere2Config` of transformers.
"""

from __future__ import annotations

from localllm.convert.config import Config
from localllm.convert.families import Rule, decoder, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32, text, u32
from localllm.errors import UnsupportedModel

_DEFAULTS = {
    "vocab_size": 256000,
    "hidden_size": 8192,
    "intermediate_size": 22528,
    "logit_scale": 0.0625,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "max_position_embeddings": 8192,
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def refuse(config: Config) -> None:
    """Refuse what neither graph of llama.cpp computes."""
    config.only("hidden_act", "silu")
    config.only("attention_bias", False)
    config.only("tie_word_embeddings", True)
    config.only("rotary_pct", 1)
    decoder.whole_hidden(config)
    rope.refuse(config, ("default",))


def refuse_first(config: Config) -> None:
    """Refuse norms of queries and keys in other than the large model, where alone llama.cpp looks for them."""
    refuse(config)
    layers = config.count("num_hidden_layers")
    if config.flag("use_qk_norm") != (layers >= 64):
        raise UnsupportedModel(
            f"config.json: use_qk_norm is {config.flag('use_qk_norm')} with {layers} layers; llama.cpp expects these "
            f"norms from 64 layers on, and only there."
        )


def refuse_second(config: Config) -> None:
    """Refuse norms of queries and keys."""
    refuse(config)
    config.only("use_qk_norm", False)


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama with the scale of the logits; the context that the tokenizer's file names is the trained one."""
    return {
        **decoder.hyperparameters(config, arch, epsilon="layer_norm_eps"),
        f"{arch}.context_length": u32(config.count("model_max_length", config.count("max_position_embeddings"))),
        f"{arch}.logit_scale": f32(config.number("logit_scale")),
        f"{arch}.rope.scaling.type": text("none"),
    }


def sliding_hyperparameters(config: Config, arch: str) -> Keys:
    """The same and which layers slide a window of what length."""
    return {
        **hyperparameters(config, arch),
        **decoder.window(config, arch),
        f"{arch}.vocab_size": u32(config.count("vocab_size")),
    }


_LAYER_RULES = (
    decoder.INPUT_NORM,
    *decoder.attention(),
    *decoder.feed_forward(),
)

_QK_NORMS = decoder.only_when(
    lambda config, _: config.flag("use_qk_norm"),
    (
        Rule("blk.{i}.attn_q_norm.weight", f"{decoder.LAYER}.self_attn.q_norm.weight", ("heads", "head")),
        Rule("blk.{i}.attn_k_norm.weight", f"{decoder.LAYER}.self_attn.k_norm.weight", ("kv_heads", "head")),
    ),
)


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name."""
    return {
        **decoder.dimensions(config),
        "heads": config.count("num_attention_heads"),
        "kv_heads": decoder.kv_heads(config),
    }


FAMILIES = (
    UsualDecoder(
        arch="command-r",
        defaults={"CohereForCausalLM": {**_DEFAULTS, "rope_theta": 500000.0}},
        dimensions=dimensions,
        hyperparameters=hyperparameters,
        refuse=refuse_first,
        layer_rules=(*_LAYER_RULES, *_QK_NORMS),
    ),
    UsualDecoder(
        arch="cohere2",
        defaults={
            "Cohere2ForCausalLM": {
                **_DEFAULTS,
                "rope_theta": 10000.0,
                "sliding_window": 4096,
                "sliding_window_pattern": 4,
            }
        },
        dimensions=dimensions,
        hyperparameters=sliding_hyperparameters,
        refuse=refuse_second,
        layer_rules=_LAYER_RULES,
    ),
)
