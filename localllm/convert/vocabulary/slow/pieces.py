"""tokenizer.model: a SentencePiece model, BPE or Unigram, as the classes of transformers bring it to tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.vocabulary.base import text_of
from localllm.convert.vocabulary.charsmap import check_charsmap
from localllm.convert.vocabulary.slow import classes
from localllm.convert.vocabulary.slow.added import added_tokens, with_added, within
from localllm.convert.vocabulary.slow.classes import TokenizerClass
from localllm.convert.vocabulary.slow.documents import Made, document, post_processor
from localllm.convert.vocabulary.slow.model_file import (
    LARGEST,
    PIECE_CONTROL,
    PIECE_NORMAL,
    PIECE_UNKNOWN,
    PIECE_UNUSED,
    PIECE_USER_DEFINED,
    UNIGRAM,
    Piece,
    PieceModel,
    parse_model,
)
from localllm.convert.vocabulary.slow.piece_parts import marked_spaces, merging, split_at_spaces, weighing
from localllm.errors import BadCheckpoint, UnsupportedModel

NAMES = ("tokenizer.model", "sentencepiece.bpe.model", "spiece.model")
"""What the classes of transformers call the file."""


def read_pieces(checkpoint: Checkpoint, settings: Mapping[str, Any], rows: int) -> Made:
    """The tokenizer of an embedding with `rows` rows, as a tokenizer.json, and the scores of its pieces.

    Raises:
        BadCheckpoint: the file is damaged.
        UnsupportedModel: the class of the tokenizer is not known, or it is a model that llama.cpp has nothing like.
    """
    folder, name = checkpoint.files.title, next(name for name in NAMES if name in checkpoint.names)
    title = f"{folder}: {name}"
    model = _read(checkpoint, name, title)
    _, kind = classes.find(folder, settings, checkpoint.config, "sentencepiece", name)
    kind = replace(kind, tokens={**kind.tokens, **_roles(model)})
    pieces = _numbered(kind, model, settings)
    ids = {piece.text: number for number, piece in enumerate(pieces) if piece.kind != PIECE_UNUSED}
    listed = checkpoint.json("added_tokens.json")
    named = added_tokens(folder, settings, listed, ids, kind.tokens)
    prefix = settings.get("add_prefix_space")
    prefix = model.normalizer.adds_prefix if prefix is None else bool(prefix)
    added, notes = within(_with_unmerged(pieces, named, prefix), rows)
    every = with_added(ids, added)
    if model.kind == UNIGRAM:
        made = weighing(title, pieces, added, model.byte_fallback)
    else:
        made = merging(pieces, every, model.byte_fallback)
    if kind.splits_words:
        around = split_at_spaces(model.normalizer, prefix)
    else:
        around = marked_spaces(model.normalizer, prefix, legacy=settings.get("legacy") is not False)
    complete = kind.named(settings)
    whole = document(made, added, post_processor=post_processor(kind, complete, every), **around)
    return Made(whole, complete, _scores(pieces, settings, listed), notes)


def scores_beside(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """The scores of the SentencePiece model beside a tokenizer.json, which has none, and why they are not there.

    The reference converter writes them. What llama.cpp does with them is proven, so that a model that cannot be read
    is no reason to stop.
    """
    name = next((name for name in NAMES if name in checkpoint.names), None)
    if name is None:
        return {}, ()
    try:
        model = _parsed(checkpoint, name)
    except UnsupportedModel:
        return {}, ()
    except BadCheckpoint as error:
        return {}, (f"merges stand for the scores of {name}, which cannot be read: {error.message}",)
    return _scores(model.pieces, settings, checkpoint.json("added_tokens.json")), ()


def _parsed(checkpoint: Checkpoint, name: str) -> PieceModel:
    title, size = f"{checkpoint.files.title}: {name}", checkpoint.files.size(name)
    if size > LARGEST:
        raise BadCheckpoint(f"{title} has {size} bytes, too many for a SentencePiece model.")
    return parse_model(title, checkpoint.content(name) or b"")


def _read(checkpoint: Checkpoint, name: str, title: str) -> PieceModel:
    model = _parsed(checkpoint, name)
    if model.normalizer.charsmap:
        check_charsmap(model.normalizer.charsmap)
    if model.space_behind or not model.normalizer.marks_spaces:
        where = "behind words" if model.space_behind else "as they are"
        raise UnsupportedModel(f"{title} has spaces {where}; llama.cpp marks them before words.")
    if model.kind == UNIGRAM and any(piece.kind == PIECE_UNUSED for piece in model.pieces):
        raise UnsupportedModel(f"{title} has pieces that are not to be used; llama.cpp would use them.")
    return model


def _roles(model: PieceModel) -> dict[str, str]:
    """The texts of the special tokens that the model itself names."""
    special = {role: model.pieces[number] for role, number in model.roles.items()}
    return {role: piece.text for role, piece in special.items() if piece.kind not in (PIECE_NORMAL, PIECE_UNUSED)}


def _numbered(kind: TokenizerClass, model: PieceModel, settings: Mapping[str, Any]) -> list[Piece]:
    """The pieces by the ids that the class gives them.

    The first three pieces of fairseq's models stand for four ids, so that all others are one higher.
    """

    def special(role: str, piece_kind: int = PIECE_CONTROL) -> Piece:
        return Piece(text_of(settings.get(f"{role}_token")) or kind.tokens[role], 0.0, piece_kind)

    pieces = list(model.pieces)
    if kind.shifted:
        first = [special("bos"), special("pad"), special("eos"), special("unk", PIECE_UNKNOWN)]
        pieces = [*first, *pieces[3:], special("mask")]
    sentinels = settings.get("extra_ids", kind.sentinels) if kind.sentinels else 0
    if not isinstance(sentinels, int) or not 0 <= sentinels <= len(pieces):
        raise BadCheckpoint(f"tokenizer_config.json: extra_ids is {sentinels!r}, not a number of tokens.")
    return pieces + [Piece(f"<extra_id_{number}>", 0.0, PIECE_CONTROL) for number in reversed(range(sentinels))]


def _with_unmerged(
    pieces: Sequence[Piece], added: Sequence[Mapping[str, Any]], prefix: bool
) -> list[Mapping[str, Any]]:
    """The added tokens with those pieces that SentencePiece never makes by merging, nor splits.

    It finds user-defined ones after spaces were marked. That is what `normalized` means; but where a space goes before
    a text such a token would get one, too. There, and for all other tokens, it is the text as it is that counts,
    whatever the files say: so it was for the classes that they were written for.
    """
    tokens = {token["id"]: {**token, "normalized": False} for token in added}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    for number, piece in enumerate(pieces):
        if piece.kind in (PIECE_CONTROL, PIECE_USER_DEFINED):
            own = {"id": number, "content": piece.text, **flags, "special": piece.kind == PIECE_CONTROL}
            token = tokens.setdefault(number, own)
            token["normalized"] = piece == (token["content"], piece.score, PIECE_USER_DEFINED) and not prefix
    return [tokens[number] for number in sorted(tokens)]


def _scores(pieces: Sequence[Piece], settings: Mapping[str, Any], listed: Any) -> dict[str, float]:
    """The scores of the pieces, without those that other files list again: the reference gives these one of its own."""
    decoder = settings.get("added_tokens_decoder")
    again = {text_of(value) for value in decoder.values()} if isinstance(decoder, Mapping) else set()
    again |= set(listed) if isinstance(listed, Mapping) else set()
    return {piece.text: piece.score for piece in pieces if piece.text not in again}
