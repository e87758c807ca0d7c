"""Which type each tensor gets for a quantization, decided by libllama itself, and what a person changed of that.

Writes a GGUF that has a header but a hole for a body, and lets `llama_model_quantize` say in a dry run what it would
do. Knows no rule of any mixture, so there is none to keep up with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localllm.convert.header import Keys, lay_out, u32
from localllm.convert.scratch import skeleton
from localllm.convert.settings import Settings
from localllm.errors import UnsupportedModel
from localllm.native import quants

TensorInfo = tuple[str, tuple[int, ...], str]
"""A tensor before it is quantized: name, shape with the row length first, type."""

_LINE = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\w+), size =[^\n(]*(?:\((\w+)\))?\n")

_NEED_IMATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
_OUTER = re.compile(r"^(per_layer_)?token_embd\.weight$|^output\.weight$")


@dataclass(frozen=True)
class Mixture:
    """The type of every tensor.

    `fallbacks` counts those that could not have the one they were meant to have: a type packs a row in blocks of up to
    256 numbers, and a row that does not fill them gets another type. `needing` names the tensors that llama.cpp refuses
    to quantize so without an importance matrix.
    """

    types: Mapping[str, str]
    fallbacks: int
    needing: tuple[str, ...]


def choose_types(keys: Keys, tensors: Sequence[TensorInfo], settings: Settings) -> Mixture:
    """The type of every tensor for the settings' type.

    Raises:
        BadModelFile: libllama refuses the model that the keys describe, or the type.
        BadOutput: the folder for temporary files cannot be written.
    """
    before = {name: kind for name, _, kind in tensors}
    with skeleton(lay_out(keys, tensors)) as path:
        log = _dry_run(path, settings)
    types = _types_in(log, before)
    return Mixture(types, log.count("-> falling back to"), _needing(types, settings.type))


def _dry_run(path: Path, settings: Settings) -> str:
    # For its picks libllama asks only whether there is an importance matrix, not what is in it.
    imatrix = {"any": np.ones(1, dtype=np.float32)} if settings.imatrix else None
    return quants.quantize_file(
        path, path.with_name("never-written.gguf"), settings.type, dry_run=True, imatrix=imatrix
    )


def _types_in(log: str, before: Mapping[str, str]) -> dict[str, str]:
    found = {name: (after or kind).upper() for name, kind, after in _LINE.findall(log)}
    if found.keys() != before.keys():
        raise UnsupportedModel(
            "This version of llama.cpp words the log of its quantizer in a way that is not known.",
            hint="Install the version of llama-cpp-python that this release was tested with.",
        )
    return found


def _needing(types: Mapping[str, str], file_type: str) -> tuple[str, ...]:
    """`tensor_requires_imatrix` of llama.cpp, which its dry run does not tell tensor by tensor.

    llama.cpp lets the outer matrices pass, and then ggml ends the process in some types: they count here as well.
    """
    refused = (*_NEED_IMATRIX, "Q2_K") if file_type == "Q2_K_S" else _NEED_IMATRIX
    return tuple(
        name
        for name, kind in types.items()
        if kind in refused and (not _OUTER.search(name) or quants.aborts_without_importance(kind))
    )


def file_keys(keys: Keys, file_type: str) -> Keys:
    """All keys, with the two that llama.cpp's quantizer appends."""
    return {
        **keys,
        "general.quantization_version": u32(2),
        "general.file_type": u32(quants.FILE_TYPE_IDS[file_type]),
    }
