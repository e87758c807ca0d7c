"""A GGUF by itself: its layout, every block of its tensors, whether llama.cpp takes it, its vocabulary and template.

Needs no source. What it cannot see is a byte that was changed into another valid one: for that there is `weights`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localllm.chat_template import ChatTemplate
from localllm.convert import corpus
from localllm.convert.proof.chats import CHAT_TEMPLATE, TemplateProof, render_chats
from localllm.convert.slabs import Buffers, in_threads
from localllm.convert.writer import Progress
from localllm.errors import BadModelFile, BadTemplate, DoesNotFit, UnsupportedModel
from localllm.gguf_file import TENSOR_TYPES, Array, Header, TensorInfo
from localllm.native import handles, quants
from localllm.native.trial import try_file
from localllm.native.vocab import Vocab

_CHUNK = 4 << 20
_FEW_BLOCKS = 2048


@dataclass(frozen=True)
class Problem:
    """Something that makes a file fail. `about` is `file`, `metadata`, `tokenizer`, `template`, `tensors`, `source`."""

    about: str
    says: str


@dataclass(frozen=True)
class VocabularyFacts:
    """The vocabulary of a file as llama.cpp loads it."""

    model: str
    pre: str
    tokens: int


@dataclass(frozen=True)
class Alone:
    """What was found of a file by itself. `bytes_read` of weights were looked at.

    Without `vocabulary` llama.cpp does not load it, or it has none.
    """

    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    bytes_read: int
    vocabulary: VocabularyFacts | None
    template: TemplateProof | None


def check_alone(parts: Sequence[Header], threads: int, progress: Progress | None = None) -> Alone:
    """Check a file, by the headers of all its parts.

    Raises:
        BadModelFile: a part cannot be read, or became shorter while it was.
    """
    header, problems, notes = parts[0], list(_damaged(parts, threads, progress)), list(_behind(parts))
    vocabulary = template = None
    if is_model(header):
        try:
            try_file(header.path, corpus.TEXTS)
            vocabulary, template = _texts(header)
        except (BadModelFile, UnsupportedModel, DoesNotFit) as error:
            # Of a file for a newer llama.cpp too: neither its vocabulary nor its template was looked at.
            problems.append(Problem("file", f"the installed llama.cpp does not take it: {error.message}"))
    if template is not None:
        problems += [Problem("template", difference) for difference in template.differences]
    return Alone(tuple(problems), tuple(notes), sum(part.tensor_bytes for part in parts), vocabulary, template)


def is_model(header: Header) -> bool:
    """Whether it is a model with a vocabulary, not an adapter, a part of one, or a file of numbers."""
    return header.get("general.type", "model") == "model" and "tokenizer.ggml.model" in header.metadata


def _damaged(parts: Sequence[Header], threads: int, progress: Progress | None) -> Iterator[Problem]:
    """The tensors with a number, or the scale of a block, that is not finite: each with the first place."""
    buffers = Buffers()

    def look(chunk: tuple[Header, TensorInfo, int, int]) -> tuple[TensorInfo, int, int | None]:
        part, info, start, size = chunk
        data = buffers.get("chunk", size)
        _read(part, info.offset + start, data.data)
        if quants.is_valid(info.type_name, data, size):
            return info, size, None
        return info, size, start + _first_bad(info.type_name, data, _unit(info))

    whole, done = sum(part.tensor_bytes for part in parts), 0
    chunks = ((part, info, start, size) for part in parts for info in part.tensors for start, size in _chunks(info))
    named: set[str] = set()
    for info, size, bad in in_threads(look, chunks, threads, lambda: None):
        done += size
        if progress is not None:
            progress(done, whole)
        if bad is not None and info.name not in named:
            named.add(info.name)
            yield Problem(
                "tensors",
                f"{info.name} ({info.type_name}) holds a number that is not finite, at byte {info.offset + bad:,} of "
                "the file",
            )


def _first_bad(kind: str, data: npt.NDArray[np.uint8], unit: int) -> int:
    """Where the first block of `unit` bytes that is not valid begins, among bytes that hold one."""
    first = 0
    # In two steps: numbers one by one would take seconds.
    for step in (unit * _FEW_BLOCKS, unit):
        pieces = ((at, data[at : at + step]) for at in range(first, data.size, step))
        first = next(at for at, piece in pieces if not quants.is_valid(kind, piece, piece.size))
    return first


def _read(part: Header, offset: int, target: memoryview) -> None:
    try:
        with part.path.open("rb") as file:
            file.seek(offset)
            if file.readinto(target) == len(target):
                return
    except OSError as error:
        raise BadModelFile(f"{part.path} cannot be read: {error.strerror}.") from error
    raise BadModelFile(f"{part.path} became shorter while it was read.")


def _chunks(info: TensorInfo) -> Iterator[tuple[int, int]]:
    unit = _unit(info)
    step = max(_CHUNK // unit, 1) * unit
    return ((start, min(step, info.n_bytes - start)) for start in range(0, info.n_bytes, step))


def _unit(info: TensorInfo) -> int:
    """Bytes of a block."""
    return next(size for name, _, size in TENSOR_TYPES.values() if name == info.type_name)


def _behind(parts: Sequence[Header]) -> Iterator[str]:
    for part in parts:
        end = max((info.offset + info.n_bytes for info in part.tensors), default=part.data_offset)
        if part.file_bytes - end >= part.alignment:
            yield f"{part.file_bytes - end:,} bytes follow the last tensor of {part.path.name}; nobody reads them"


def _texts(header: Header) -> tuple[VocabularyFacts, TemplateProof | None]:
    with handles.open_model(header.path, vocab_only=True) as model:
        vocab = Vocab(model)
        facts = VocabularyFacts(
            str(header.get("tokenizer.ggml.model")), str(header.get("tokenizer.ggml.pre", "")), vocab.size
        )
        tokens = header.get("tokenizer.ggml.tokens")
        if isinstance(tokens, Array) and len(tokens) != vocab.size:
            raise BadModelFile(f"{header.path}: llama.cpp finds {vocab.size:,} of {len(tokens):,} tokens.")
        special = vocab.template_tokens()
    return facts, _templates(header, special)


def _templates(header: Header, special: dict[str, str]) -> TemplateProof | None:
    """Whether each chat template in a file runs in the sandbox; None where there is none."""
    found = [
        (name, value)
        for name, value in header.metadata.items()
        if isinstance(value, str) and (name == CHAT_TEMPLATE or name.startswith(f"{CHAT_TEMPLATE}."))
    ]
    rendered = refused = 0
    problems = []
    for name, source in found:
        try:
            count, refusals = render_chats(ChatTemplate(source, special), source)
        except BadTemplate as error:
            problems.append(f"{name}: {error.message}")
            continue
        rendered, refused = rendered + count, refused + len(refusals)
        if len(refusals) == count:
            problems.append(f"{name} renders no conversation: {refusals[0]}")
    return TemplateProof(rendered, refused, tuple(problems)) if found else None
