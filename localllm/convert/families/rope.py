"""Rotary positions: what a checkpoint says of them as GGUF keys and tensors.

Reference: the rotary functions of transformers (`modeling_rope_utils`), `llama_context` of llama.cpp. Knows no family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from localllm.convert.config import Config, Rope
from localllm.convert.families import Extra
from localllm.convert.header import Keys, f32, text, u32
from localllm.convert.transforms import Given
from localllm.errors import UnsupportedModel

USUAL = ("default", "linear", "dynamic", "yarn", "llama3")
"""Rope types that most graphs of llama.cpp compute. `dynamic` scales only beyond the context that the GGUF names."""

WITHOUT_FACTORS = ("default", "linear", "dynamic", "yarn")
"""Those of graphs that read no tensor of factors."""


def refuse(config: Config, allowed: Sequence[str] = USUAL, *, partial: bool = False, exact_ramp: bool = True) -> None:
    """Refuse rotary positions that llama.cpp does not compute for a family.

    `partial` is whether positions may cover a part of each head; `exact_ramp` whether to refuse a ramp of YaRN that
    llama.cpp would round.

    Raises:
        UnsupportedModel: the rope type is none of `allowed`, or has a parameter that llama.cpp has no key for.
    """
    rope = config.rope
    if rope.kind not in allowed:
        known = ", ".join(allowed)
        raise UnsupportedModel(
            f"config.json: rope type {rope.kind!r} is not converted for {config.architecture}; known: {known}."
        )
    if not partial and rope.parameters.get("partial_rotary_factor", 1) != 1:
        raise UnsupportedModel(
            f"config.json: rotary positions on a part of each head are not converted for {config.architecture}."
        )
    if rope.kind == "yarn":
        # What llama.cpp takes for granted: most of its graphs read no key for these.
        for name, usual in (("beta_fast", 32), ("beta_slow", 1), ("truncate", True)):
            if rope.parameters.get(name) not in (None, usual) and (exact_ramp or name != "truncate"):
                raise UnsupportedModel(
                    f"config.json: YaRN with {name} {rope.parameters[name]} is not what llama.cpp does."
                )


def dims(config: Config, head: int) -> int:
    """How many of the `head` numbers of each head are rotated: `rotary_dim`, or a part of them."""
    return config.count("rotary_dim", int(head * config.rope.number("partial_rotary_factor", 1.0)))


def keys(rope: Rope, arch: str) -> Keys:
    """The keys of scaling, then the base of the frequencies."""
    scaling = _SCALING.get(rope.kind, _no_scaling)(rope, arch)
    return {**scaling, f"{arch}.rope.freq_base": f32(rope.theta)}


def extras(config: Config, dims: int) -> list[Extra]:
    """The tensor of factors of `llama3` scaling, for `dims` rotated numbers of each head."""
    if config.rope.kind != "llama3":
        return []
    return [Extra("rope_freqs.weight", Given(llama3_factors(config.rope, dims)))]


def _no_scaling(_: Rope, __: str) -> Keys:
    return {}


def _linear(rope: Rope, arch: str) -> Keys:
    return {
        f"{arch}.rope.scaling.type": text("linear"),
        f"{arch}.rope.scaling.factor": f32(rope.number("factor")),
    }


def _yarn(rope: Rope, arch: str) -> Keys:
    """YaRN. llama.cpp derives the factor of attention from `factor` itself; another one is given relative to that.

    Source: `_compute_yarn_parameters` of transformers; `llama_context` of llama.cpp, which ignores `yarn_attn_factor`.
    """
    factor = rope.number("factor")
    found = {
        f"{arch}.rope.scaling.type": text("yarn"),
        f"{arch}.rope.scaling.factor": f32(factor),
        f"{arch}.rope.scaling.original_context_length": u32(int(rope.number("original_max_position_embeddings"))),
    }
    usual = yarn_scale(factor, 1.0)
    wanted = usual
    if rope.parameters.get("attention_factor") is not None:
        wanted = rope.number("attention_factor")
    elif rope.parameters.get("mscale") and rope.parameters.get("mscale_all_dim"):
        wanted = yarn_scale(factor, rope.number("mscale")) / yarn_scale(factor, rope.number("mscale_all_dim"))
    if not math.isclose(wanted, usual, rel_tol=1e-6):
        found[f"{arch}.rope.scaling.attn_factor"] = f32(wanted / usual)
    return found


_SCALING: Mapping[str, Callable[[Rope, str], Keys]] = {"linear": _linear, "yarn": _yarn}


def yarn_scale(factor: float, weight: float) -> float:
    """What YaRN scales attention by."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def llama3_factors(rope: Rope, dims: int) -> tuple[float, ...]:
    """What each frequency of `dims` rotated numbers is divided by under `llama3` scaling.

    Source: `_compute_llama3_parameters` of transformers. Low frequencies are divided by `factor`, high ones kept, those
    between blended. In float32 and in the order of torch, which divides by multiplying with the reciprocal, so that the
    factors have the bits that the reference converter writes.
    """
    one, turn = np.float32(1), np.float32(2 * np.pi)
    factor, low, high = (np.float32(rope.number(n)) for n in ("factor", "low_freq_factor", "high_freq_factor"))
    context = np.float32(rope.number("original_max_position_embeddings"))
    exponents = np.arange(0, dims, 2, dtype=np.float32) / np.float32(dims)
    frequencies = one / np.power(rope.theta, exponents.astype(np.float64)).astype(np.float32)
    wavelengths = one / frequencies * turn
    smooth = (one / wavelengths * context - low) / (high - low)
    blended = one / ((one - smooth) / factor + smooth)
    factors = np.where(wavelengths > context / low, factor, blended)
    factors = np.where(wavelengths < context / high, one, factors)
    return tuple(float(value) for value in factors)
