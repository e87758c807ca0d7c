"""The quantization types that a person can ask for, by name, with a phrase for each.

Knows names and what is said of them. What a type costs and needs is asked of llama.cpp: see `listing`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from localllm.errors import UnsupportedModel

PHRASES = {
    "F32": "not quantized; twice the size of most checkpoints",
    "F16": "not quantized; numbers beyond 65504 do not fit",
    "BF16": "not quantized; what most checkpoints are stored in",
    "Q8_0": "hardly distinguishable from the original",
    "Q6_K": "hardly distinguishable from the original",
    "Q5_K_M": "close to the original",
    "Q5_K_S": "close to the original, all matrices alike",
    "Q5_1": "older and simpler",
    "Q5_0": "older and simpler",
    "Q4_K_M": "the usual choice: a quarter of the size",
    "Q4_K_S": "a little smaller than Q4_K_M",
    "Q4_1": "older and simpler",
    "Q4_0": "older and simpler, quick to make",
    "IQ4_NL": "levels at uneven distances; slow to make",
    "IQ4_XS": "smaller than Q4_K_S; slow to make",
    "Q3_K_L": "a loss that shows",
    "Q3_K_M": "a loss that shows",
    "Q3_K_S": "a loss that shows clearly",
    "IQ3_M": "better than Q3_K_S at its size; slow to make",
    "IQ3_S": "better than Q3_K_S at its size; slow to make",
    "IQ3_XS": "between IQ3_S and IQ3_XXS; slow to make",
    "IQ3_XXS": "a large loss, less of it in a large model; slow to make",
    "Q2_K": "a large loss",
    "Q2_K_S": "a large loss; smaller than Q2_K",
    "IQ2_M": "a large loss, less of it in a large model; slow to make",
    "IQ2_S": "a large loss, less of it in a large model; slow to make",
    "IQ2_XS": "a severe loss; slow to make",
    "IQ2_XXS": "a severe loss; slow to make",
    "IQ1_M": "for a model that fits in no other way; slow to make",
    "IQ1_S": "for a model that fits in no other way; slow to make",
    "TQ2_0": "for models trained with weights of three values, such as BitNet",
    "TQ1_0": "for models trained with weights of three values; smaller, slower",
    "Q2_0": "for models trained with weights of four values",
    "Q1_0": "for models trained with weights of two values",
    "MXFP4_MOE": "experts in MXFP4, the rest in Q8_0: for models trained so, such as gpt-oss",
}
"""What `--type` may be, about from large to small, and what to say of each."""

TYPES = tuple(PHRASES)

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "FP16": "F16", "FP32": "F32"}
"""Names that llama-quantize understands as well, and two that people type."""

FLOAT_TYPES = ("F32", "F16", "BF16")

_OWN_NAME = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q6_K", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0")
_OWN_NAME_IQ = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ3_S", "IQ4_XS", "IQ4_NL")

TENSOR_TYPES = {name: name for name in (*FLOAT_TYPES, *_OWN_NAME, *_OWN_NAME_IQ)} | {
    "Q3_K": "Q3_K_M",
    "Q4_K": "Q4_K_M",
    "Q5_K": "Q5_K_M",
    "IQ2_S": "IQ2_M",
    "MXFP4": "MXFP4_MOE",
}
"""The types that a single tensor can be given, each with a quantization type whose plain matrices have it."""


def parse_type(name: str) -> str:
    """The quantization type that a person means by `name`: any case, with or without the usual suffix.

    Raises:
        UnsupportedModel: there is no such type.
    """
    wanted = name.strip().upper().replace("-", "_")
    return nearest(ALIASES.get(wanted, wanted), TYPES, f"There is no quantization type {name!r}.")


def parse_tensor_type(name: str) -> str:
    """The type of a single tensor that a person means by `name`, in any case.

    Raises:
        UnsupportedModel: there is no such type, or none that can be written; a mixture is no type of a tensor.
    """
    return nearest(name.strip().upper(), TENSOR_TYPES, f"There is no tensor type {name!r} that can be written.")


def nearest(wanted: str, known: Iterable[str], complaint: str) -> str:
    """`wanted` if it is one of `known`.

    Raises:
        UnsupportedModel: it is not; says `complaint` and what is near.
    """
    names = list(known)
    if wanted in names:
        return wanted
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.4)
    raise UnsupportedModel(complaint, hint=f"{'Nearest' if near else 'Known'}: {', '.join(near or names)}.")
