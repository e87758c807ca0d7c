"""The file of a SentencePiece model, `tokenizer.model`: pieces with scores, and how text is prepared for them.

It is one message of protocol buffers, `ModelProto` of SentencePiece's `sentencepiece_model.proto`, whose numbers of
fields and default values are here. Knows neither transformers nor llama.cpp.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from localllm.convert.vocabulary.slow.protobuf import (
    BYTES,
    COPY_AGAIN,
    VARINT,
    Field,
    damaged,
    expect,
    fields,
    single,
    text,
    whole,
)
from localllm.errors import BadCheckpoint, UnsupportedModel

LARGEST = 1 << 28
"""Bytes. The largest vocabularies, of 262,144 pieces, take 5 MB."""

UNIGRAM, BPE = 1, 2
_MODELS = {UNIGRAM: "unigram", BPE: "BPE", 3: "words", 4: "characters"}

PIECE_NORMAL, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER_DEFINED, PIECE_UNUSED, PIECE_BYTE = 1, 2, 3, 4, 5, 6

_RANKS = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")
"""A line of tiktoken's files, which Llama 3 has under the same name: a token in base64, and its rank."""


class Piece(NamedTuple):
    """A piece of text; `kind` is one of the numbers PIECE_…."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class Normalizer:
    """How text is prepared: characters replaced by a table, spaces at the ends and runs of them cut, one put before."""

    charsmap: bytes = b""
    adds_prefix: bool = True
    cuts_spaces: bool = True
    marks_spaces: bool = True


@dataclass(frozen=True)
class PieceModel:
    """A SentencePiece model. `roles` has the ids of special pieces by role, without those that it does not have."""

    pieces: tuple[Piece, ...]
    kind: int
    normalizer: Normalizer
    byte_fallback: bool
    space_behind: bool
    roles: dict[str, int]


def parse_model(title: str, data: bytes) -> PieceModel:
    """The model in the bytes of its file.

    Raises:
        BadCheckpoint: it is damaged; says the byte.
        UnsupportedModel: it is a file of tiktoken, or a model of words or characters.
    """
    if _RANKS.match(data):
        raise UnsupportedModel(
            f"{title} is not a SentencePiece model but ranks for tiktoken, which do not say how text is split.",
            hint="Copy tokenizer.json from where the checkpoint comes from.",
        )
    pieces: list[Piece] = []
    trainer, normalizer = _Trainer(), Normalizer()
    for field in fields(title, data, 0, len(data)):
        number, _, _, start, stop = field
        if number in (1, 2, 3):
            expect(title, field, BYTES)
        if number == 1:
            pieces.append(_piece(title, data, start, stop))
        elif number == 2:
            trainer = _trainer(title, data, start, stop, trainer)
        elif number == 3:
            normalizer = _normalizer(title, data, start, stop, normalizer)
    if trainer.kind not in (UNIGRAM, BPE):
        raise UnsupportedModel(f"{title} is a model of {_MODELS.get(trainer.kind, f'the kind {trainer.kind}')}.")
    _check(title, pieces)
    roles = {role: number for role, number in trainer.roles.items() if 0 <= number < len(pieces)}
    return PieceModel(tuple(pieces), trainer.kind, normalizer, trainer.byte_fallback, trainer.space_behind, roles)


def _piece(title: str, data: bytes, start: int, stop: int) -> Piece:
    content, score, kind = "", 0.0, PIECE_NORMAL
    for field in fields(title, data, start, stop):
        if field[0] == 1:
            content = text(title, data, field)
        elif field[0] == 2:
            score = single(title, data, field)
        elif field[0] == 3:
            kind = _number(title, field)
    if not content:
        raise damaged(title, start, "a piece has no text")
    if not math.isfinite(score):
        raise damaged(title, start, f"the piece {content!r} has the score {score}")
    if not PIECE_NORMAL <= kind <= PIECE_BYTE:
        raise damaged(title, start, f"the piece {content!r} is of the kind {kind}, which there is not")
    return Piece(content, score, kind)


@dataclass(frozen=True)
class _Trainer:
    """Of the settings that a model was trained with, those that matter later."""

    kind: int = UNIGRAM
    byte_fallback: bool = False
    space_behind: bool = False
    unk: int = 0
    bos: int = 1
    eos: int = 2
    pad: int = -1

    @property
    def roles(self) -> dict[str, int]:
        return {"unk": self.unk, "bos": self.bos, "eos": self.eos, "pad": self.pad}


_TRAINER = {3: "kind", 24: "space_behind", 35: "byte_fallback", 40: "unk", 41: "bos", 42: "eos", 43: "pad"}
_FLAGS = ("space_behind", "byte_fallback")
_NORMALIZER = {3: "adds_prefix", 4: "cuts_spaces", 5: "marks_spaces"}


def _trainer(title: str, data: bytes, start: int, stop: int, before: _Trainer) -> _Trainer:
    found: dict[str, Any] = {}
    for field in fields(title, data, start, stop):
        name = _TRAINER.get(field[0])
        if name is not None:
            number = _number(title, field)
            found[name] = bool(number) if name in _FLAGS else number
    return replace(before, **found)


def _normalizer(title: str, data: bytes, start: int, stop: int, before: Normalizer) -> Normalizer:
    found: dict[str, Any] = {}
    for field in fields(title, data, start, stop):
        if field[0] == 2:
            expect(title, field, BYTES)
            found["charsmap"] = data[field[3] : field[4]]
        elif field[0] in _NORMALIZER:
            found[_NORMALIZER[field[0]]] = bool(_number(title, field))
    return replace(before, **found)


def _number(title: str, field: Field) -> int:
    expect(title, field, VARINT)
    return whole(field[2])


def _check(title: str, pieces: list[Piece]) -> None:
    """Refuse what SentencePiece itself refuses: no pieces, a text twice, not exactly one piece for the unknown."""
    if not pieces:
        raise BadCheckpoint(f"{title} holds no pieces.", hint=COPY_AGAIN)
    first: dict[str, int] = {}
    for number, piece in enumerate(pieces):
        if first.setdefault(piece.text, number) != number:
            raise BadCheckpoint(f"{title}: the pieces {first[piece.text]} and {number} are both {piece.text!r}.")
    unknown = sum(piece.kind == PIECE_UNKNOWN for piece in pieces)
    if unknown != 1:
        raise BadCheckpoint(f"{title}: {unknown} pieces stand for what is unknown, not one.")
