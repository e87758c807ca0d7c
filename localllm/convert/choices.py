"""What the settings make of a model: the type of each tensor, the importance of its columns, the layout of the file.

Knows a model as keys and tensors, not where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from localllm.convert.header import Keys, Layout
from localllm.convert.imatrix import ImportanceMatrix, check_matches, open_imatrix, provenance
from localllm.convert.metadata import with_metadata
from localllm.convert.mixture import Mixture, TensorInfo, choose_types, file_keys
from localllm.convert.plan import PlannedTensor
from localllm.convert.pruning import kept_names, pruned_keys
from localllm.convert.quantizations import FLOAT_TYPES
from localllm.convert.settings import Settings
from localllm.convert.shards import lay_out_shards
from localllm.convert.tensor import BLOCKS
from localllm.errors import UnsupportedModel


@dataclass(frozen=True)
class UntypedModel:
    """A model before its types are chosen. `half` is the 16-bit type that stands before a quantized one.

    It is None for a model whose tensors are quantized from what they are.
    """

    hyperparameters: Keys
    vocabulary: Keys
    tensors: Sequence[PlannedTensor]
    half: str | None


@dataclass(frozen=True)
class Choices:
    """What the writer needs to know, with a layout for each file of the model.

    `through` is the 16-bit type to which weights are rounded before they are quantized, if any.
    """

    tensors: Sequence[PlannedTensor]
    layouts: tuple[Layout, ...]
    through: str | None
    importance: ImportanceMatrix | None
    notes: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return sum(layout.file_bytes for layout in self.layouts)


@dataclass(frozen=True)
class Types:
    """What follows for the tensors alone: their types, their names where layers are left out, their importance."""

    mixture: Mixture
    names: Mapping[str, str]
    tensors: tuple[PlannedTensor, ...]
    importance: ImportanceMatrix | None
    remarks: Sequence[str]


def choose_for_tensors(keys: Keys, tensors: Sequence[PlannedTensor], half: str | None, settings: Settings) -> Types:
    """What follows from the settings for the tensors of a model; `keys` are those without its vocabulary.

    It takes milliseconds, and what cannot be done is refused here: do it before anything that takes long.

    Raises:
        BadModelFile: the importance matrix is of another model.
        BadOutput: the folder for temporary files cannot be written.
        ModelNotFound: there is no such importance matrix.
        UnsupportedModel: an importance matrix is needed, or what is asked for a tensor or layer cannot be done.
    """
    keys = with_metadata(keys, _of(settings.metadata, keys))
    mixture = choose_mixture(keys, tensors, half, settings)
    names = kept_names([tensor.name for tensor in tensors], keys, settings.prune_layers)
    kept = tuple(replace(tensor, name=names[tensor.name]) for tensor in tensors if tensor.name in names)
    matrix, remarks = _importance(settings, mixture, kept, half, names)
    return Types(mixture, names, kept, matrix, remarks)


def choose_mixture(keys: Keys, tensors: Sequence[PlannedTensor], half: str | None, settings: Settings) -> Mixture:
    """The type that each tensor gets. Of the importance matrix only counts whether there is one.

    Raises:
        BadModelFile, BadOutput, UnsupportedModel: as `choose_types`.
    """
    # To a type of floats the reference converts in one step, also what its quantizer leaves alone.
    before = settings.type if half and settings.type in FLOAT_TYPES else half
    return choose_types(keys, [_unquantized(tensor, before) for tensor in tensors], settings)


def choose(model: UntypedModel, settings: Settings, types: Types | None = None) -> Choices:
    """Everything that follows from the settings. `types` is what `choose_for_tensors` said, if it was asked before.

    Raises:
        UnsupportedModel: what is asked for a key cannot be done.
        BadModelFile, BadOutput, ModelNotFound: as `choose_for_tensors`.
    """
    types = types or choose_for_tensors(model.hyperparameters, model.tensors, model.half, settings)
    keys = file_keys({**model.hyperparameters, **model.vocabulary}, settings.type)
    keys = with_metadata(keys, settings.metadata)
    if types.importance is not None:
        keys |= provenance(types.importance)
    if settings.prune_layers:
        keys = pruned_keys(keys, settings.prune_layers)
    entries = [(tensor.name, tensor.shape[::-1], types.mixture.types[tensor.name]) for tensor in types.tensors]
    return Choices(
        tensors=types.tensors,
        layouts=lay_out_shards(keys, entries, settings.split_max_size),
        through=None if settings.exact_source or settings.type in FLOAT_TYPES else model.half,
        importance=types.importance.renamed(types.names) if types.importance else None,
        notes=(*_fallback_note(types.mixture, len(types.tensors)), *types.remarks),
    )


def _of(changes: Sequence[tuple[str, str]], keys: Keys) -> list[tuple[str, str]]:
    """The changes that may count when types are chosen."""
    return [(key, value) for key, value in changes if key in keys]


def _unquantized(tensor: PlannedTensor, half: str | None) -> TensorInfo:
    """A tensor as the reference converter gives it to llama.cpp's quantizer: in F32, 16 bits, or as it is packed."""
    as_it_is = half is None or tensor.dtype in BLOCKS
    kind = tensor.dtype if as_it_is or half is None else tensor.before_quantizing(half)
    return tensor.name, tensor.shape[::-1], kind


def _importance(
    settings: Settings, mixture: Mixture, tensors: Sequence[PlannedTensor], half: str | None, names: Mapping[str, str]
) -> tuple[ImportanceMatrix | None, list[str]]:
    """The importance matrix, if one was given, and what to tell about it."""
    if settings.imatrix is None:
        if not mixture.needing:
            return None, []
        first = mixture.needing[0]
        raise UnsupportedModel(
            f"{settings.type} needs an importance matrix here: without one {first} is of no use in "
            f"{mixture.types[first]}.",
            hint="Give one with --imatrix FILE. Many published models have one beside their GGUF files; llama.cpp's "
            "`llama-imatrix -m model-F16.gguf -f text.txt` measures one. Q2_K and larger types need none.",
        )
    matrix = open_imatrix(settings.imatrix)
    quantized = {t.name: (t.columns, t.experts) for t in tensors if mixture.types[t.name] not in ("F32", half, t.dtype)}
    return matrix, check_matches(matrix.renamed(names), quantized, mixture.needing)


def _fallback_note(mixture: Mixture, tensors: int) -> Iterator[str]:
    if mixture.fallbacks:
        yield (
            f"{mixture.fallbacks} of {tensors} tensors get a type of smaller blocks, because their rows do not fill "
            f"blocks of 256: the file is larger than is usual for this type"
        )
