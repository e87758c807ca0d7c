"""Phi-3, Phi-3.5 and Phi-4: Llama's layers with q, k and v in one matrix, gate and up in another, and LongRoPE.

Reference: the `phi3` graph of llama.cpp, `Phi3Config` and `_compute_longrope_parameters` of transformers.
"""

from __future__ import annotations

import math

from localllm.convert.config import Config
from localllm.convert.families import Extra, Rule, decoder, llama, rope
from localllm.convert.families.usual import UsualDecoder
from localllm.convert.header import Keys, f32, u32
from localllm.convert.transforms import Given
from localllm.errors import BadCheckpoint

_LONGROPE = ("longrope", "su")
"""Its name, and the one that the first files have."""


def dimensions(config: Config) -> dict[str, int]:
    """Sizes that the rules name; `qkv` is all of the matrix that holds the three."""
    sizes = decoder.dimensions(config)
    return {**sizes, "qkv": sizes["q"] + 2 * sizes["kv"]}


def refuse(config: Config) -> None:
    """Refuse what llama.cpp's `phi3` graph does not compute."""
    config.only("hidden_act", "silu")
    decoder.whole_hidden(config)
    if config.rope.kind not in _LONGROPE:
        rope.refuse(config, ("default",), partial=True)


def hyperparameters(config: Config, arch: str) -> Keys:
    """Those of Llama, the length of the window (0 for none), and what LongRoPE scales attention by."""
    keys = {
        **decoder.hyperparameters(config, arch),
        f"{arch}.context_length": u32(llama.context_length(config)),
        f"{arch}.attention.sliding_window": u32(config.get("sliding_window") or 0),
        f"{arch}.rope.scaling.original_context_length": u32(_trained(config)),
    }
    if config.rope.kind in _LONGROPE:
        keys[f"{arch}.rope.scaling.attn_factor"] = f32(_attention_factor(config))
    return keys


def _trained(config: Config) -> int:
    return config.count("original_max_position_embeddings")


def _attention_factor(config: Config) -> float:
    """What queries and keys are scaled by, for the short and for the long factors."""
    found = config.rope
    if found.parameters.get("attention_factor") is not None:
        return found.number("attention_factor")
    factor = found.number("factor", config.count("max_position_embeddings") / _trained(config))
    return math.sqrt(1 + math.log(factor) / math.log(_trained(config))) if factor > 1 else 1.0


def extras(config: Config) -> list[Extra]:
    """What each frequency is divided by, for long and for short contexts.

    Raises:
        BadCheckpoint: not one factor for each pair of rotated numbers.
    """
    if config.rope.kind not in _LONGROPE:
        return []
    pairs = rope.dims(config, decoder.head_dim(config)) // 2
    made = []
    for name in ("long", "short"):
        factors = config.rope.parameters.get(f"{name}_factor")
        if not isinstance(factors, list) or len(factors) != pairs:
            count = len(factors) if isinstance(factors, list) else "no"
            raise BadCheckpoint(f"config.json: the rope parameters have {count} {name} factors, not {pairs}.")
        made.append(Extra(f"rope_factors_{name}.weight", Given(tuple(float(factor) for factor in factors))))
    return made


def notes(config: Config) -> list[str]:
    """Where llama.cpp and transformers differ."""
    found = llama.notes(config)
    if config.rope.kind in _LONGROPE:
        found.append(
            f"With a context of more than {_trained(config)} tokens llama.cpp takes the long rope factors from the "
            f"first token on, transformers only once the text is longer than that"
        )
    return found


FAMILY = UsualDecoder(
    arch="phi3",
    defaults={
        "Phi3ForCausalLM": {
            "vocab_size": 32064,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
        },
    },
    dimensions=dimensions,
    hyperparameters=hyperparameters,
    refuse=refuse,
    extras=extras,
    notes=notes,
    layer_rules=(
        *decoder.NORMS,
        Rule("blk.{i}.attn_qkv.weight", f"{decoder.LAYER}.self_attn.qkv_proj.weight", ("qkv", "hidden")),
        Rule("blk.{i}.attn_output.weight", f"{decoder.LAYER}.self_attn.o_proj.weight", ("hidden", "q")),
        Rule("blk.{i}.ffn_up.weight", f"{decoder.LAYER}.mlp.gate_up_proj.weight", ("2 ffn", "hidden")),
        Rule("blk.{i}.ffn_down.weight", f"{decoder.LAYER}.mlp.down_proj.weight", ("hidden", "ffn")),
    ),
)
