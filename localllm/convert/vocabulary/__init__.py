"""A checkpoint's tokenizer as the keys of a GGUF: tokens, types, merges, special tokens, chat templates.

`read_source` finds the tokenizer, `read_vocabularies` says in which ways it might be written for llama.cpp; `verify`
proves which of them gives the same token ids. One module for each kind that llama.cpp has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from localllm.convert.checkpoint import Checkpoint
from localllm.convert.vocabulary import byte_level, sentencepiece, unigram, wordpiece
from localllm.convert.vocabulary.base import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Limit,
    Vocabulary,
    by_text,
)
from localllm.convert.vocabulary.sources import Source, read_source
from localllm.convert.vocabulary.special import read_special
from localllm.convert.vocabulary.templates import read_templates
from localllm.convert.vocabulary.tokens import gather
from localllm.errors import BadCheckpoint, UnsupportedModel

__all__ = [
    "BYTE",
    "CONTROL",
    "NORMAL",
    "UNKNOWN",
    "UNUSED",
    "USER_DEFINED",
    "Limit",
    "Source",
    "Vocabulary",
    "read_source",
    "read_vocabularies",
]


def read_vocabularies(checkpoint: Checkpoint, source: Source, rows: int) -> list[Vocabulary]:
    """Every way to write a tokenizer whose embedding has `rows` rows, the likeliest first.

    Raises:
        BadCheckpoint: the tokenizer contradicts itself or does not fit the embedding.
        UnsupportedModel: a kind of tokenizer that llama.cpp does not have; nothing is guessed.
    """
    document, settings = source.document, source.settings
    model, title = document.get("model"), f"{checkpoint.files.title}: {source.name}"
    if not isinstance(model, dict):
        raise BadCheckpoint(f"{title} holds no model.")
    tokens = gather(title, _numbered(model.get("vocab"), title), document.get("added_tokens") or (), rows)
    special = read_special(checkpoint, settings, document.get("post_processor"), by_text(tokens.texts))
    templates = read_templates(checkpoint, settings)
    kind = _kind(model)
    if kind == "WordPiece":
        return wordpiece.candidates(document, tokens, special, templates)
    if kind == "Unigram":
        return unigram.candidates(document, tokens, special, templates)
    if kind == "BPE" and byte_level.is_byte_level(document):
        return byte_level.candidates(document, settings, tokens, special, templates)
    if kind == "BPE" and model.get("byte_fallback"):
        return sentencepiece.candidates(document, source.scores, tokens, special, templates)
    what = "BPE that works neither on bytes nor falls back to them" if kind == "BPE" else str(kind)
    raise UnsupportedModel(f"{title}: llama.cpp has no tokenizer of this kind: {what}.")


def _kind(model: Mapping[str, Any]) -> str:
    """The kind, which older files leave out."""
    if "type" in model:
        return str(model["type"])
    return "BPE" if "merges" in model else "WordPiece" if "max_input_chars_per_word" in model else "Unigram"


def _numbered(vocab: Any, title: str) -> Iterable[tuple[str, int]]:
    """Texts and ids, from either form of the vocabulary in a tokenizer.json."""
    if isinstance(vocab, dict):
        return vocab.items()
    if isinstance(vocab, list):
        return [(str(piece), number) for number, (piece, _) in enumerate(vocab)]
    raise BadCheckpoint(f"{title} holds no vocabulary.")
