"""Unigram, the tokenizer of T5 and XLM-RoBERTa (llama.cpp's `t5`): the likeliest pieces by their scores."""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import Mapping
from typing import Any

from localllm.convert import header
from localllm.convert.header import Keys
from localllm.convert.vocabulary.base import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    Limit,
    Special,
    Vocabulary,
    space_prefix,
    steps,
)
from localllm.convert.vocabulary.charsmap import check_charsmap
from localllm.convert.vocabulary.limits import normalizer_limits
from localllm.convert.vocabulary.sentencepiece import BYTE_TOKEN, MARK, UNUSED_SCORE, prepends_space
from localllm.convert.vocabulary.tokens import Tokens, check_texts
from localllm.errors import BadCheckpoint, UnsupportedModel


def candidates(
    document: Mapping[str, Any], tokens: Tokens, special: Special, templates: Mapping[str, str]
) -> list[Vocabulary]:
    """The vocabulary, with and without runs of spaces made one, the likelier first.

    Raises:
        BadCheckpoint: the table of replaced characters is damaged.
        UnsupportedModel: there is no unknown token.
    """
    model = document["model"]
    unknown = model.get("unk_id")
    if not isinstance(unknown, int) or not 0 <= unknown < len(tokens.texts):
        raise UnsupportedModel("A Unigram vocabulary without an unknown token, which llama.cpp needs.")
    types = tuple(
        UNKNOWN
        if number == unknown
        else BYTE
        if kind == NORMAL and model.get("byte_fallback") and BYTE_TOKEN.fullmatch(text)
        else kind
        for number, (text, kind) in enumerate(zip(tokens.texts, tokens.types, strict=True))
    )
    check_texts(tokens.texts)
    own = [float(score) for _, score in model["vocab"]]
    scores = [
        own[number] if number < len(own) else UNUSED_SCORE if kind in (UNUSED, CONTROL) else 0.0
        for number, kind in enumerate(types)
    ]
    normalizers = steps(document.get("normalizer"), "normalizers")
    limits = list(normalizer_limits(normalizers, ("Precompiled", "Prepend", "Replace", "Strip")))
    if model.get("byte_fallback"):
        limits.append(_NO_BYTES)
    prefix, merges_spaces = _spaces(document)
    charsmap = _charsmap(document)
    if charsmap:
        limits.append(_LOST_MARKS)
    return [
        Vocabulary(
            model="t5",
            pre="default",
            tokens=tokens.texts,
            types=types,
            special=Special({**special.ids, "unk": unknown}, special.stops, special.adds, special.stated),
            templates=templates,
            scores=tuple(scores),
            middle={
                **space_prefix(prefix),
                "tokenizer.ggml.remove_extra_whitespaces": header.flag(merged),
                **charsmap,
            },
            limits=tuple(limits),
            fits=merged == merges_spaces,
        )
        for merged in (merges_spaces, not merges_spaces)
    ]


_LOST_MARKS = Limit(
    "the tokenizers library drops marks behind a letter that was composed already; llama.cpp keeps them, and so does "
    "SentencePiece itself",
    lambda text: any(unicodedata.category(part).startswith("M") for part in text),
    tolerated=True,
)
_NO_BYTES = Limit(
    "llama.cpp spells no characters in bytes with a Unigram vocabulary: they are unknown tokens", lambda _: True
)


def _spaces(document: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether a text gets a space in front, and whether runs of spaces count as one."""
    pre = steps(document.get("pre_tokenizer"), "pretokenizers")
    normalizers = steps(document.get("normalizer"), "normalizers")
    kinds = [step.get("type") for step in (*pre, *normalizers)]
    cut = any(step.get("type") == "Replace" and "Regex" in step.get("pattern", ()) for step in normalizers)
    marking = next((step for step in pre if step.get("type") == "Metaspace" and step.get("replacement") == MARK), None)
    prefix = prepends_space(marking) if marking else "Prepend" in kinds
    return prefix, cut or "WhitespaceSplit" in kinds


def _charsmap(document: Mapping[str, Any]) -> Keys:
    """The table of characters that are replaced before all else, as SentencePiece compiles it."""
    for step in steps(document.get("normalizer"), "normalizers"):
        if step.get("type") == "Precompiled":
            try:
                table = base64.b64decode(step.get("precompiled_charsmap") or "", validate=True)
            except (binascii.Error, TypeError, ValueError) as error:
                raise BadCheckpoint(f"The tokenizer's precompiled_charsmap is not base64: {error}.") from error
            if not table:
                return {}
            check_charsmap(table)
            return {"tokenizer.ggml.precompiled_charsmap": header.u8s(table)}
    return {}
