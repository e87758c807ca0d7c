"""How the next token is picked, as data: `Sampling`, llama.cpp's defaults, and how open values are filled.

The names are those of llama.cpp's flags and of its server's requests. Knows no llama.cpp: see `sampler`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

LARGEST_SEED = (1 << 32) - 2
"""The number above it is llama.cpp's "draw one"."""

FORBIDDEN = -1e9
"""A logit bias that leaves a token no chance. Minus infinity would as well, but JSON has no word for it."""

SAMPLERS = ("penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature")
"""The samplers of a chain in llama.cpp's order, by its names."""

_COUNT, _NUMBER = (1 << 31) - 1, 1e6

# The lowest and highest value that each sampler can compute with.
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, _NUMBER),
    "dynatemp_range": (0, _NUMBER),
    "dynatemp_exponent": (0, _NUMBER),
    "top_k": (0, _COUNT),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, _NUMBER),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "repeat_last_n": (-1, _COUNT),
    "repeat_penalty": (1e-6, _NUMBER),
    "frequency_penalty": (-_NUMBER, _NUMBER),
    "presence_penalty": (-_NUMBER, _NUMBER),
    "dry_multiplier": (0, _NUMBER),
    "dry_base": (0, _NUMBER),
    "dry_allowed_length": (0, _COUNT),
    "dry_penalty_last_n": (-1, _COUNT),
    "mirostat": (0, 2),
    "mirostat_tau": (0, _NUMBER),
    "mirostat_eta": (0, _NUMBER),
    "adaptive_target": (-1, 1),
    "adaptive_decay": (0, 0.99),
    "seed": (0, LARGEST_SEED),
    "logprobs": (0, _COUNT),
}


@dataclass(frozen=True)
class Sampling:
    """How the next token is picked. `None` means: as the model file recommends, else llama.cpp's default.

    `repeat_last_n` and `dry_penalty_last_n` are tokens, -1 the whole context. `samplers` are applied in their order;
    with `mirostat` 1 or 2 they are not, as in llama.cpp. `logit_bias` adds to the logit of a token, given by its id or
    by a text that is one token; minus infinity forbids it.

    The text follows `grammar`, which is GBNF, or is JSON that `schema` accepts, a JSON schema as Python values (or a
    class that has one, as those of pydantic do). It ends before the first of the `stop` strings. With `logprobs` the
    reply tells the log-probability of each of its tokens, and of that many of the likeliest in its place.

    Raises:
        ValueError: a value that its sampler cannot compute with.
    """

    temperature: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    adaptive_target: float | None = None
    adaptive_decay: float | None = None
    samplers: tuple[str, ...] | None = None
    logit_bias: tuple[tuple[int | str, float], ...] = ()
    seed: int | None = None
    grammar: str | None = None
    schema: Any = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"the {name.replace('_', ' ')} {value} is not between {low:g} and {_said(high)}")
        for name in ("dry_sequence_breakers", "samplers"):
            if getattr(self, name) is not None:
                _set(self, name, tuple(getattr(self, name)))
        unknown = set(self.samplers or ()) - set(SAMPLERS)
        if unknown:
            raise ValueError(f"there is no sampler {min(unknown)!r}; there are {', '.join(SAMPLERS)}")
        if self.grammar is not None and not isinstance(self.grammar, str):
            raise TypeError(f"a grammar is a text in GBNF, not {type(self.grammar).__name__}")
        if self.grammar is not None and self.schema is not None:
            raise ValueError("a reply follows a grammar or a schema, not both")
        if hasattr(self.schema, "model_json_schema"):
            _set(self, "schema", self.schema.model_json_schema())
        _set(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        if not all(self.stop):
            raise ValueError("a stop string is empty")
        _set(self, "logit_bias", tuple(_bias(token, bias) for token, bias in _pairs(self.logit_bias)))

    @property
    def constrained(self) -> bool:
        """Whether a grammar or a schema says what may be written."""
        return self.grammar is not None or self.schema is not None


def _said(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _set(sampling: Sampling, name: str, value: object) -> None:
    object.__setattr__(sampling, name, value)  # the way to normalize a frozen dataclass


def _pairs(given: Any) -> Iterable[tuple[int | str, float]]:
    return given.items() if isinstance(given, dict) else given


def _bias(token: int | str, bias: float) -> tuple[int | str, float]:
    if not bias <= -FORBIDDEN:  # not a number, or too large
        raise ValueError(f"the logit bias {bias} of the token {token!r} is not a number up to {-FORBIDDEN:g}")
    return token, max(float(bias), FORBIDDEN)


DEFAULTS = Sampling(
    temperature=0.8,
    dynatemp_range=0.0,
    dynatemp_exponent=1.0,
    top_k=40,
    top_p=0.95,
    min_p=0.05,
    typical_p=1.0,
    top_n_sigma=-1.0,
    xtc_probability=0.0,
    xtc_threshold=0.1,
    repeat_last_n=64,
    repeat_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
    dry_multiplier=0.0,
    dry_base=1.75,
    dry_allowed_length=2,
    dry_penalty_last_n=64,
    dry_sequence_breakers=("\n", ":", '"', "*"),
    mirostat=0,
    mirostat_tau=5.0,
    mirostat_eta=0.1,
    adaptive_target=-1.0,
    adaptive_decay=0.9,
    samplers=SAMPLERS,
)
"""What llama.cpp's own programs do. Source: `common_params_sampling` of llama.cpp's common/common.h."""


def open_values(sampling: Sampling) -> list[str]:
    """The values that have to be known to sample, and are not."""
    needed = (field.name for field in fields(Sampling) if getattr(DEFAULTS, field.name) is not None)
    return [name for name in (*needed, "seed") if getattr(sampling, name) is None]


def resolve(asked: Sampling, base: Sampling) -> Sampling:
    """`asked` with every open value taken from `base`, and a seed drawn if none was given."""
    filled = {name: getattr(base, name) for name in open_values(asked) if name != "seed"}
    seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(4), "little") >> 1
    return replace(asked, **filled, seed=seed)
