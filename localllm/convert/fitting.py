"""The best quantization type that fits a number of bytes when the model runs.

Knows the order in which types lose quality, and nothing of memory: how much a model needs is asked of the caller, with
a file that has the whole header and a hole for a body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localllm.convert import Prepared
from localllm.errors import DoesNotFit, UnsupportedModel


@dataclass(frozen=True)
class Need:
    """The bytes that a model takes when it runs with a context of `n_ctx` tokens; an estimate unless `exact`."""

    bytes: int
    n_ctx: int
    exact: bool


Measure = Callable[[Path], Need]
"""What the model in a file needs; only the header of the file may be read."""

LADDER = (
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q4_K_M",
    "Q4_K_S",
    "IQ4_XS",
    "Q3_K_L",
    "Q3_K_M",
    "IQ3_M",
    "IQ3_S",
    "Q3_K_S",
    "IQ3_XS",
    "IQ3_XXS",
    "Q2_K",
    "IQ2_M",
    "IQ2_S",
    "IQ2_XS",
    "IQ2_XXS",
    "IQ1_M",
    "IQ1_S",
)
"""Types from the best on, below the 16 bits of the checkpoint; one that was made for some models only is not here."""


@dataclass(frozen=True)
class Fit:
    """The type that was chosen and what it needs, and the next better one; None when there is no better one."""

    type: str
    need: Need
    next_type: str | None
    next_need: Need | None


def best_fit(prepared: Prepared, budget: int, measure: Measure) -> Fit:
    """The best type whose model needs at most `budget` bytes.

    Types that need an importance matrix are tried only where the settings give one.

    Raises:
        DoesNotFit: not even the smallest type fits.
    """
    better: Prepared | None = None
    better_need: Need | None = None
    for name in (*([prepared.half] if prepared.half else []), *LADDER):
        try:
            candidate = prepared.with_type(name)
        except UnsupportedModel:
            if prepared.settings.imatrix:
                raise
            continue
        # To measure a large model takes seconds: not where its weights alone are too much.
        weights = sum(tensor.bytes for tensor in candidate.preview.tensors)
        need = _measured(candidate, measure) if weights <= budget else None
        if need is not None and need.bytes <= budget:
            if better is None:
                return Fit(name, need, None, None)
            return Fit(name, need, better.settings.type, better_need or _measured(better, measure))
        better, better_need = candidate, need
    assert better is not None
    smallest, need = better.settings.type, better_need or _measured(better, measure)
    raise DoesNotFit(
        f"Even in {smallest} the model needs {need.bytes:,} bytes with a context of {need.n_ctx:,} tokens, "
        f"{need.bytes - budget:,} more than the {budget:,} there are.",
        hint="A smaller --ctx or --kv-type q8_0 needs less"
        + ("." if prepared.settings.imatrix else "; with an importance matrix (--imatrix) smaller types can be made."),
    )


def _measured(candidate: Prepared, measure: Measure) -> Need:
    with candidate.skeleton() as path:
        return measure(path)
