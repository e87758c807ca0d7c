"""A Hugging Face checkpoint becomes a GGUF: one pass, bounded memory, a proof that it is the same model.

    from localllm.convert import convert
    result = convert("SmolLM2-135M-Instruct", type="Q4_K_M")

`type` is the option that people set; every other one is a field of `Settings`: `convert(folder, settings=Settings(…))`.
`convert` and `preview` are the way in; `prepare` is between them: all checks and decisions made, nothing written yet.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localllm.convert import architectures, verify
from localllm.convert.checkpoint import Checkpoint, open_checkpoint
from localllm.convert.general import general_keys
from localllm.convert.header import Layout, lay_out
from localllm.convert.imatrix import ImportanceMatrix, check_matches, open_imatrix, provenance
from localllm.convert.mixture import Mixture, TensorInfo, choose_types, file_keys
from localllm.convert.plan import PlannedTensor, half_type, left_out, plan_tensors
from localllm.convert.quantizations import FLOAT_TYPES
from localllm.convert.settings import Settings, settled
from localllm.convert.stored import read_stored_keys
from localllm.convert.tensor import BLOCKS
from localllm.convert.verify import TokenizerProof
from localllm.convert.vocabulary import read_vocabulary, tokenizer_text
from localllm.convert.writer import Progress, check_target, write
from localllm.errors import BadModelFile, BadOutput, UnsupportedModel
from localllm.gguf_file import read_header

__all__ = ["Conversion", "Preview", "PreviewTensor", "Settings", "convert", "prepare", "preview"]


@dataclass(frozen=True)
class PreviewTensor:
    """One tensor of the file to be. `shape` is in GGUF's order, the row length first."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int


@dataclass(frozen=True)
class Preview:
    """What a conversion will write, to the byte. `notes` are differences worth knowing, in words."""

    source: Path
    architecture: str
    type: str
    parameters: int
    bytes: int
    tensors: tuple[PreviewTensor, ...]
    tokenizer: TokenizerProof
    notes: tuple[str, ...]

    @property
    def types(self) -> dict[str, int]:
        """How many tensors each type has, the commonest first."""
        return dict(Counter(tensor.type for tensor in self.tensors).most_common())


@dataclass(frozen=True)
class Conversion:
    """A finished conversion."""

    outfile: Path
    preview: Preview
    seconds: float

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return self.preview.bytes

    @property
    def tensors(self) -> int:
        """How many tensors were found in the finished file, each as planned."""
        return len(self.preview.tensors)


class Prepared:
    """A conversion with everything decided. A context manager: leaving it closes the checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        preview: Preview,
        plan: list[PlannedTensor],
        layout: Layout,
        through: str | None,
        importance: ImportanceMatrix | None,
    ) -> None:
        self.preview = preview
        self._checkpoint, self._plan, self._layout = checkpoint, plan, layout
        self._through, self._importance = through, importance

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self._checkpoint.files.close()

    @property
    def header(self) -> bytes:
        """The first bytes of the file: its metadata and the list of its tensors."""
        return self._layout.header

    def write(
        self, outfile: Path, *, force: bool = False, threads: int = 0, progress: Progress | None = None
    ) -> Conversion:
        """Write the file. As `convert`."""
        began = time.monotonic()
        _refuse_source(self.preview.source, outfile)
        write(
            self._checkpoint,
            self._plan,
            self._layout,
            outfile,
            through=self._through,
            importance=self._importance,
            force=force,
            threads=threads or cores(),
            check=self._check,
            progress=progress,
        )
        return Conversion(outfile, self.preview, time.monotonic() - began)

    def _check(self, path: Path) -> None:
        """The file says what was planned. What does not is a mistake of ours, not of the person."""
        found = [(info.name, info.shape, info.type_name, info.n_bytes) for info in read_header(path).tensors]
        planned = [(tensor.name, tensor.shape, tensor.type, tensor.bytes) for tensor in self.preview.tensors]
        if found != planned:
            raise BadModelFile(f"{path} does not hold what was written to it; the disk may be failing.")


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def prepare(source: str | Path, type: str | None = None, settings: Settings | None = None) -> Prepared:
    """Read the headers of a checkpoint, decide everything, prove the tokenizer. Writes nothing.

    `type` is short for `Settings(type=…)`, and goes before that of `settings`.

    Raises:
        ModelNotFound, BadCheckpoint, UnsupportedModel, MissingPackage: see their docstrings.
    """
    settings, folder = settled(type, settings), Path(source)
    checkpoint = open_checkpoint(folder)
    try:
        family = architectures.find(checkpoint.config)
        config = family.complete(checkpoint.config)
        family.refuse(config)
        plan = plan_tensors(checkpoint, family, config)
        parameters = sum(tensor.rows * tensor.columns for tensor in plan)
        model_keys = {
            **general_keys(checkpoint, folder, family.arch, parameters),
            **family.hyperparameters(config, family.arch),
            **read_stored_keys(checkpoint, family, config),
        }
        half = half_type(checkpoint)
        mixture = choose_types(model_keys, [_unquantized(tensor, half) for tensor in plan], settings)
        matrix, remarks = _importance(settings, mixture, plan, half)
        reference = verify.Reference(tokenizer_text(checkpoint))
        vocabulary = read_vocabulary(checkpoint, family.dimensions(config)["vocab"])
        vocabulary, proof = verify.prove_vocabulary(vocabulary, reference)
        keys = file_keys({**model_keys, **vocabulary.keys()}, settings.type)
        if matrix is not None:
            keys |= provenance(matrix)
        layout = lay_out(keys, [(tensor.name, tensor.shape[::-1], mixture.types[tensor.name]) for tensor in plan])
    except BaseException:
        checkpoint.files.close()
        raise
    preview = Preview(
        source=folder,
        architecture=checkpoint.config.architecture,
        type=settings.type,
        parameters=parameters,
        bytes=layout.file_bytes,
        tensors=tuple(PreviewTensor(e.name, e.shape, e.type_name, e.n_bytes) for e in layout.entries),
        tokenizer=proof,
        notes=(
            *family.notes(config),
            *left_out(checkpoint, family, config),
            *_fallback_note(mixture, len(plan)),
            *remarks,
            *proof.notes,
        ),
    )
    through = None if settings.exact_source or settings.type in FLOAT_TYPES else half
    return Prepared(checkpoint, preview, plan, layout, through, matrix)


def _unquantized(tensor: PlannedTensor, half: str) -> TensorInfo:
    """A tensor as the reference converter gives it to llama.cpp's quantizer: in F32, 16 bits, or as it is packed."""
    kind = tensor.dtype if tensor.dtype in BLOCKS else "F32" if tensor.keeps_f32 else half
    return tensor.name, tensor.shape[::-1], kind


def _importance(
    settings: Settings, mixture: Mixture, plan: list[PlannedTensor], half: str
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
    quantized = {t.name: (t.columns, t.experts) for t in plan if mixture.types[t.name] not in ("F32", half, t.dtype)}
    return matrix, check_matches(matrix, quantized, mixture.needing)


def _fallback_note(mixture: Mixture, tensors: int) -> list[str]:
    if not mixture.fallbacks:
        return []
    return [
        f"{mixture.fallbacks} of {tensors} tensors get a type of smaller blocks, because their rows do not fill "
        f"blocks of 256: the file is larger than is usual for this type"
    ]


def preview(source: str | Path, type: str | None = None, settings: Settings | None = None) -> Preview:
    """What `convert` would write, to the byte, without writing. Takes the options of `prepare`.

    Raises:
        ModelNotFound, BadCheckpoint, UnsupportedModel, MissingPackage: see their docstrings.
    """
    with prepare(source, type, settings) as prepared:
        return prepared.preview


def convert(
    source: str | Path,
    outfile: str | Path | None = None,
    *,
    type: str | None = None,
    settings: Settings | None = None,
    force: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
    announce: Callable[[Preview, Path], None] | None = None,
) -> Conversion:
    """Convert the checkpoint in the folder `source` to a GGUF.

    The bytes of every tensor equal those of llama.cpp's converter followed by `llama-quantize`. `outfile` is by default
    `<name of the folder>-<type>.gguf` in the current folder; it appears when it is whole. `type` is short for
    `Settings(type=…)`, and goes before that of `settings`. `threads` 0 uses every core.
    `progress` is called with the weights done and in all; `announce` with the exact size before the first byte is
    written.

    Raises:
        ModelNotFound: there is no such folder.
        BadCheckpoint: a shard is missing, a shape is wrong, a tensor is left over, the tokenizer is missing.
        UnsupportedModel: an architecture, tokenizer, rope type or quantization type that is not known.
        BadModelFile: the importance matrix is damaged or of another model.
        BadOutput: the file exists and `force` is not set, or the disk is full; nothing is left behind.
        MissingPackage: the extra `convert` is not installed.
    """
    folder, settings = Path(source), settled(type, settings)
    target = Path(outfile) if outfile is not None else default_outfile(folder, settings.type)
    check_target(target, 0, force)
    with prepare(folder, settings=settings) as prepared:
        if announce is not None:
            announce(prepared.preview, target)
        return prepared.write(target, force=force, threads=threads, progress=progress)


def default_outfile(source: Path, file_type: str) -> Path:
    """`<name of the folder>-<type>.gguf` in the current folder."""
    return Path(f"{source.resolve().name or 'model'}-{file_type}.gguf")


def _refuse_source(source: Path, outfile: Path) -> None:
    if outfile.exists() and any(outfile.samefile(path) for path in source.iterdir() if path.is_file()):
        raise BadOutput(f"{outfile} is a file of the checkpoint itself.", hint="Write elsewhere with --outfile.")
