"""A conversion with everything decided and nothing written: what it will write, and the writing.

Knows a model as keys, tensors and where their numbers come from; not which kind of source that is.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from localllm.convert.choices import Choices, UntypedModel, choose
from localllm.convert.inputs import Inputs, refuse_inputs
from localllm.convert.outfiles import check_target, journal_of
from localllm.convert.proof.chats import ChatSide, TemplateProof, compare_chats, engine_side
from localllm.convert.proof.roundtrip import Meter
from localllm.convert.proof.verification import Verification
from localllm.convert.provenance import hashing, with_hashes
from localllm.convert.scratch import named_parts, skeleton
from localllm.convert.settings import Settings, settled
from localllm.convert.shards import shard_paths
from localllm.convert.tensor import RowSource
from localllm.convert.verify import TokenizerProof
from localllm.convert.writer import Progress, Target, write
from localllm.errors import BadModelFile
from localllm.gguf_file import read_header


@dataclass(frozen=True)
class PreviewTensor:
    """One tensor of the file to be. `shape` is in GGUF's order, the row length first."""

    name: str
    shape: tuple[int, ...]
    type: str
    bytes: int


@dataclass(frozen=True)
class Preview:
    """What a conversion will write, to the byte, and to how many files. `notes` are differences worth knowing.

    `source` is a path, or what messages call a source that has none. `tokenizer` is None where there was none to
    compare with: the source is a GGUF.
    """

    source: Path | str
    architecture: str
    type: str
    parameters: int
    bytes: int
    tensors: tuple[PreviewTensor, ...]
    files: int
    tokenizer: TokenizerProof | None
    notes: tuple[str, ...]

    @property
    def types(self) -> dict[str, int]:
        """How many tensors each type has, the commonest first."""
        return dict(Counter(tensor.type for tensor in self.tensors).most_common())


@dataclass(frozen=True)
class Conversion:
    """A finished conversion. There are several `files` when the model was split."""

    files: tuple[Path, ...]
    preview: Preview
    seconds: float
    verification: Verification

    @property
    def outfile(self) -> Path:
        """The file to load; the first of several."""
        return self.files[0]

    @property
    def bytes(self) -> int:
        """The size of all files together."""
        return self.preview.bytes


@dataclass(frozen=True)
class Evidence:
    """What a proof needs of a source: how it renders its chat template, and the files whose hashes are to be told."""

    chat: ChatSide | None = None
    unhashed: tuple[str, ...] = ()


class Prepared:
    """A conversion with everything decided. A context manager: leaving it closes the checkpoint."""

    def __init__(
        self,
        source: RowSource,
        preview: Preview,
        model: UntypedModel,
        settings: Settings,
        choices: Choices,
        inputs: Inputs,
        evidence: Evidence | None = None,
    ) -> None:
        self.preview, self.settings, self.inputs = preview, settings, inputs
        self._source, self._model, self._choices = source, model, choices
        self._evidence = evidence or Evidence()

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.files.close()

    @property
    def header(self) -> bytes:
        """The first bytes of the (first) file: its metadata and the list of its tensors."""
        return self._choices.layouts[0].header

    @property
    def half(self) -> str | None:
        """The 16-bit type that holds the checkpoint's weights best, `BF16` or `F16`; None of a GGUF."""
        return self._model.half

    def skeleton(self) -> AbstractContextManager[Path]:
        """The model in one file with a hole for a body, in a folder for temporary files."""
        choices = self._choices
        if len(choices.layouts) > 1:
            choices = choose(self._model, replace(self.settings, split_max_size=None))
        return skeleton(choices.layouts[0])

    def with_type(self, type: str) -> Prepared:
        """The same conversion to another type. Shares the checkpoint: leave only one of them.

        Raises:
            UnsupportedModel: the type needs an importance matrix, and the settings give none.
        """
        settings = settled(type, self.settings)
        choices = choose(self._model, settings)
        before, after = len(self._choices.notes), choices.notes
        preview = replace(
            self.preview,
            type=settings.type,
            bytes=choices.bytes,
            tensors=_preview_tensors(choices),
            files=len(choices.layouts),
            notes=(*after, *self.preview.notes[before:]),
        )
        return Prepared(self._source, preview, self._model, settings, choices, self.inputs, self._evidence)

    def check(self, outfile: Path, *, force: bool = False, resume: bool = False) -> list[Path]:
        """The files that `write` would write, none of which is an input; others are replaced with `force` only.

        Raises:
            BadOutput: one of them cannot be written.
        """
        files = shard_paths(outfile, self.preview.files)
        refuse_inputs(files, self.inputs)
        for file in files:
            check_target(file, 0, force or (resume and journal_of(files[0]).exists()))
        return files

    def write(
        self,
        outfile: Path,
        *,
        force: bool = False,
        resume: bool = False,
        threads: int = 0,
        progress: Progress | None = None,
        remark: Callable[[str], None] | None = None,
    ) -> Conversion:
        """Write the file. As `convert`."""
        began = time.monotonic()
        files = self.check(outfile, force=force, resume=resume)
        meter = Meter() if self.settings.verify else None
        found: list[Verification] = []

        def check(parts: Sequence[Path]) -> None:
            if self._evidence.unhashed:
                self._tell_hashes(parts[0], [future.result() for future in digests])
            found.append(self._verified(parts, meter))

        with hashing(self._source.files, self._evidence.unhashed) as digests:
            write(
                self._source,
                self._choices.tensors,
                self._choices.layouts,
                Target(files, force, resume, remark or (lambda _: None)),
                through=self._choices.through,
                importance=self._choices.importance,
                threads=threads or cores(),
                check=check,
                meter=meter,
                progress=progress,
            )
        return Conversion(tuple(files), self.preview, time.monotonic() - began, found[0])

    def _tell_hashes(self, path: Path, digests: Sequence[str]) -> None:
        with path.open("r+b") as file:
            file.write(with_hashes(self.header, digests))

    def _verified(self, paths: Sequence[Path], meter: Meter | None) -> Verification:
        """The proof. Files that do not say what was planned are a mistake of ours, not of the person."""
        headers = [read_header(path) for path in paths]
        infos = [info for header in headers for info in header.tensors]
        found = [(info.name, info.shape, info.type_name, info.n_bytes) for info in infos]
        planned = [(tensor.name, tensor.shape, tensor.type, tensor.bytes) for tensor in self.preview.tensors]
        if found != planned:
            raise BadModelFile(f"{paths[0]} does not hold what was written to it; the disk may be failing.")
        if meter is None:
            return Verification(len(infos), self.preview.tokenizer)
        read = meter.check([(header.path, header.tensors) for header in headers])
        return Verification(len(infos), self.preview.tokenizer, meter.tensors(), read, self._template(paths))

    def _template(self, paths: Sequence[Path]) -> TemplateProof | None:
        if self._evidence.chat is None:
            return None
        with named_parts(paths) as path, engine_side(path) as engine:
            return compare_chats(self._evidence.chat, engine)


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def previewed(
    source: Path | str,
    architecture: str,
    settings: Settings,
    choices: Choices,
    proof: TokenizerProof | None,
    notes: tuple[str, ...],
) -> Preview:
    """What follows for a person from the choices; `notes` are further ones."""
    return Preview(
        source=source,
        architecture=architecture,
        type=settings.type,
        parameters=sum(tensor.rows * tensor.columns for tensor in choices.tensors),
        bytes=choices.bytes,
        tensors=_preview_tensors(choices),
        files=len(choices.layouts),
        tokenizer=proof,
        notes=(*choices.notes, *notes),
    )


def _preview_tensors(choices: Choices) -> tuple[PreviewTensor, ...]:
    entries = [entry for layout in choices.layouts for entry in layout.entries]
    return tuple(PreviewTensor(e.name, e.shape, e.type_name, e.n_bytes) for e in entries)
