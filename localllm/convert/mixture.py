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
from localllm.convert.pruning import kept_names
from localllm.convert.quantizations import TENSOR_TYPES, parse_tensor_type
from localllm.convert.scratch import skeleton
from localllm.convert.settings import Settings
from localllm.errors import BadModelFile, UnsupportedModel
from localllm.native import quants

TensorInfo = tuple[str, tuple[int, ...], str]
"""A tensor before it is quantized: name, shape with the row length first, type."""

_LINE = re.compile(r"\[ *\d+/ *\d+\] (\S+) +- \[[^\]]*\], type = +(\w+), size =[^\n(]*(?:\((\w+)\))?\n")

_FALLBACK = re.compile(r"warning: (\S+) +- ncols [^\n]*-> falling back to")

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
    """The type of every tensor for the settings' type, and what they change of it.

    `tensors` are those of the whole model; layers that the settings leave out are not in the result, where the others
    have their new names.

    Raises:
        BadOutput: the folder for temporary files cannot be written.
        UnsupportedModel: libllama refuses the model that the keys describe, or the type for its shapes; or what the
            settings ask for a tensor cannot be done.
    """
    names = kept_names([name for name, _, _ in tensors], keys, settings.prune_layers)
    before = {names[name]: kind for name, _, kind in tensors if name in names}
    with skeleton(lay_out(keys, tensors)) as path:

        def in_types(file_type: str, pure: bool) -> tuple[dict[str, str], set[str]]:
            log = _dry_run(path, file_type, pure, settings)
            return _types_in(log, before), set(_FALLBACK.findall(log))

        types, fallbacks = in_types(settings.type, settings.pure)
        if settings.tensor_types or settings.output_type or settings.embedding_type:
            # What libllama does with every matrix when all are of one type is what it does with each of them.
            small, large = in_types("Q4_0", True)[0], in_types("Q8_0", True)[0]
            matrices = [name for name in before if {small[name], large[name]} != {before[name]}]
            changes = _changes(matrices, settings)
            for wanted in sorted(set(changes.values())):
                alike, falling = in_types(TENSOR_TYPES[wanted], True)
                changed = {name for name, kind in changes.items() if kind == wanted}
                types |= {name: alike[name] for name in changed}
                fallbacks = fallbacks - changed | falling & changed
    return Mixture(types, len(fallbacks), _needing(types, settings.type))


def _changes(matrices: Sequence[str], settings: Settings) -> dict[str, str]:
    """The type that a person asked for, by tensor. The outer matrices' own options go first, as in llama.cpp."""
    changes: dict[str, str] = {}
    fitting = set()
    for name in matrices:
        for pattern, kind in settings.tensor_types:
            if re.search(pattern, name, re.IGNORECASE):
                fitting.add(pattern)
                changes.setdefault(name, parse_tensor_type(kind))
    for pattern, _ in settings.tensor_types:
        if pattern not in fitting:
            raise UnsupportedModel(
                f"No tensor of this model that can be quantized has a name with {pattern!r} in it.",
                hint="--preview shows the names of all tensors; those of norms and small tensors keep their type.",
            )
    if settings.output_type:
        tied = "output.weight" not in matrices
        if tied and settings.embedding_type:
            raise UnsupportedModel(
                "The output matrix of this model is its token embeddings: they can have only one type.",
                hint="Give either --output-type or --embedding-type.",
            )
        changes["token_embd.weight" if tied else "output.weight"] = parse_tensor_type(settings.output_type)
    if settings.embedding_type:
        changes["token_embd.weight"] = parse_tensor_type(settings.embedding_type)
        if "per_layer_token_embd.weight" in matrices:
            changes.setdefault("per_layer_token_embd.weight", parse_tensor_type(settings.embedding_type))
    return changes


def _dry_run(path: Path, file_type: str, pure: bool, settings: Settings) -> str:
    try:
        return quants.quantize_file(
            path,
            path.with_name("never-written.gguf"),
            file_type,
            dry_run=True,
            pure=pure,
            prune_layers=settings.prune_layers,
            # For its picks libllama asks only whether there is an importance matrix, not what is in it.
            imatrix={"any": np.ones(1, dtype=np.float32)} if settings.imatrix else None,
        )
    except BadModelFile as error:
        # The file is ours: what llama.cpp does not like is the type for these shapes.
        reason = error.message.rpartition(": ")[2]
        raise UnsupportedModel(
            f"llama.cpp makes no {file_type} of this model: {reason}.",
            hint="Choose another type: --list-types shows them, and which fit rows of odd sizes.",
        ) from error


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
