"""How the next token is picked: llama.cpp's own sampler chain, built from `Sampling`.

What the caller left open comes from the model file (`general.sampling.*`), else from llama.cpp's defaults.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localllm.native import handles, lib
from localllm.runtime.types import Sampling

# The defaults of llama.cpp's own programs (common.h). A penalty looks at this many tokens back.
DEFAULTS = Sampling(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.0)
PENALTY_WINDOW = 64
LARGEST_SEED = (1 << 32) - 2

_META_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "repeat_penalty": "general.sampling.penalty_repeat",
}


def recommended(model: handles.ModelHandle) -> Sampling:
    """What the model file asks for, with llama.cpp's defaults where it is silent or not a number."""
    found: dict[str, Any] = {}
    for name, key in _META_KEYS.items():
        default = getattr(DEFAULTS, name)
        text = model.metadata(key)
        try:
            value = float(text) if text else default
        except ValueError:
            value = default
        # A file may say anything; what no sampler could mean is as good as silence.
        found[name] = type(default)(value if 0 <= value < 1 << 31 else default)
    return Sampling(**found)


def resolve(asked: Sampling, base: Sampling) -> Sampling:
    """`asked` with every open value taken from `base`, and a seed drawn if none was given.

    Raises:
        ValueError: the seed is not between 0 and 2**32 - 2; the number above it is llama.cpp's "draw one".
    """
    if asked.seed is not None and not 0 <= asked.seed < LARGEST_SEED + 1:
        raise ValueError(f"the seed {asked.seed} is not between 0 and {LARGEST_SEED}")
    names = ("temperature", "top_k", "top_p", "min_p", "repeat_penalty")
    values = {name: getattr(asked, name) if getattr(asked, name) is not None else getattr(base, name) for name in names}
    seed = asked.seed if asked.seed is not None else secrets.randbits(31)
    return Sampling(**values, seed=seed)


@dataclass
class Sampler:
    """A `llama_sampler` chain. Close it when the reply ends."""

    pointer: Any

    def accept(self, tokens: Sequence[int]) -> None:
        """Let penalties know what stands before the first token: the end of the prompt."""
        for token in tokens[-PENALTY_WINDOW:]:
            lib.llama().llama_sampler_accept(self.pointer, token)

    def close(self) -> None:
        """Free the chain and every sampler in it."""
        if self.pointer is not None:
            lib.llama().llama_sampler_free(self.pointer)
            self.pointer = None


def build(sampling: Sampling, n_vocab: int) -> Sampler:
    """The chain for a fully resolved `sampling`, in llama.cpp's order: penalties, top-k, top-p, min-p, temperature.

    Temperature 0 is greedy: the likeliest token after penalties.

    Raises:
        ValueError: `sampling` has an open value.
    """
    api = lib.llama()
    if None in (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p, sampling.repeat_penalty):
        raise ValueError("the sampling has open values: resolve() it first")
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())

    def add(sampler: Any) -> None:
        api.llama_sampler_chain_add(chain, sampler)

    if sampling.repeat_penalty and sampling.repeat_penalty != 1.0:
        add(api.llama_sampler_init_penalties(n_vocab, PENALTY_WINDOW, sampling.repeat_penalty, 0.0, 0.0))
    if sampling.temperature == 0:
        add(api.llama_sampler_init_greedy())
        return Sampler(chain)
    if sampling.top_k:
        add(api.llama_sampler_init_top_k(sampling.top_k))
    if sampling.top_p is not None and sampling.top_p < 1:
        add(api.llama_sampler_init_top_p(sampling.top_p, 1))
    if sampling.min_p:
        add(api.llama_sampler_init_min_p(sampling.min_p, 1))
    add(api.llama_sampler_init_temp(sampling.temperature))
    add(api.llama_sampler_init_dist(sampling.seed or 0))
    return Sampler(chain)
