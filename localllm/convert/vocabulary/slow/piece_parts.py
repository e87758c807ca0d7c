"""A SentencePiece model as the parts of a tokenizer.json: its model, and what happens to spaces before and after."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from localllm.convert.vocabulary.sentencepiece import MARK
from localllm.convert.vocabulary.slow.documents import bpe, sequence
from localllm.convert.vocabulary.slow.model_file import (
    PIECE_NORMAL,
    PIECE_UNKNOWN,
    PIECE_USER_DEFINED,
    Normalizer,
    Piece,
)
from localllm.errors import UnsupportedModel

Step = Mapping[str, Any]


def merging(pieces: Sequence[Piece], ids: Mapping[str, int], byte_fallback: bool) -> dict[str, Any]:
    """The model that merges. `ids` are those of all tokens, added ones included."""
    return bpe(
        ids,
        list(_merges(piece for piece in pieces if piece.text in ids)),
        unk_token=_unknown(pieces)[1],
        fuse_unk=True,
        byte_fallback=byte_fallback,
    )


def _merges(pieces: Iterable[Piece]) -> Iterator[tuple[str, str]]:
    """All ways to make a piece of two, those of the best score first, as transformers orders them.

    SentencePiece merges whatever makes the piece with the best score. Of several ways to make the same piece the one
    with the longer left part goes first here.
    """
    scores = {piece.text: piece.score for piece in pieces if piece.kind in (PIECE_NORMAL, PIECE_USER_DEFINED)}
    for text in sorted(scores, key=scores.__getitem__, reverse=True):
        for place in range(len(text) - 1, 0, -1):
            if text[:place] in scores and text[place:] in scores:
                yield text[:place], text[place:]


def weighing(
    title: str, pieces: Sequence[Piece], added: Sequence[Mapping[str, Any]], byte_fallback: bool
) -> dict[str, Any]:
    """The model that takes the likeliest pieces, with the added tokens at their ids.

    Raises:
        UnsupportedModel: ids between the pieces and the added tokens belong to nothing.
    """
    vocab = [(piece.text, piece.score) for piece in pieces]
    for token in added:
        number, text = token["id"], token["content"]
        if number > len(vocab):
            raise UnsupportedModel(
                f"{title} has {len(vocab)} pieces, but the next token, {text!r}, has the id {number}."
            )
        if number == len(vocab) or vocab[number][0] != text:
            vocab[number : number + 1] = [(text, 0.0)]
    return {"type": "Unigram", "unk_id": _unknown(pieces)[0], "byte_fallback": byte_fallback, "vocab": vocab}


def _unknown(pieces: Sequence[Piece]) -> tuple[int, str]:
    return next((number, piece.text) for number, piece in enumerate(pieces) if piece.kind == PIECE_UNKNOWN)


def split_at_spaces(normalizer: Normalizer, prefix: bool) -> dict[str, Any]:
    """The parts around a model of T5 and XLM-RoBERTa: words are split before, each gets a space before it."""
    marking = _metaspace("always" if prefix else "never", split=True)
    return _parts(_replacing(normalizer), [{"type": "WhitespaceSplit"}, marking], marking)


def marked_spaces(normalizer: Normalizer, prefix: bool, legacy: bool) -> dict[str, Any]:
    """The parts around a model that reads whole texts, in which spaces are marked.

    With `legacy` a space goes before what follows a special token, too.
    """
    steps = _replacing(normalizer)
    if normalizer.cuts_spaces:
        steps += [_replaced({"Regex": r"\A +| +\z"}, ""), _replaced({"Regex": " {2,}"}, " ")]
    spaces: Step = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
    decoder = {"type": "Sequence", "decoders": [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    if not legacy:
        return _parts(steps, [_metaspace("first" if prefix else "never", split=False)], decoder)
    if prefix:
        steps.append({"type": "Prepend", "prepend": MARK})
    return _parts([*steps, _replaced({"String": " "}, MARK)], [], decoder)


def _replacing(normalizer: Normalizer) -> list[Step]:
    table = base64.b64encode(normalizer.charsmap).decode()
    return [{"type": "Precompiled", "precompiled_charsmap": table}] if table else []


def _parts(normalizers: Sequence[Step], pre: Sequence[Step], decoder: Step) -> dict[str, Any]:
    return {
        "normalizer": sequence(normalizers, "normalizers"),
        "pre_tokenizer": sequence(pre, "pretokenizers"),
        "decoder": decoder,
    }


def _replaced(pattern: Mapping[str, str], content: str) -> Step:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _metaspace(scheme: str, *, split: bool) -> Step:
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split}
