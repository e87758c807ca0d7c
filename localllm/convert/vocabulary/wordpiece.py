"""WordPiece, the tokenizer of BERT (llama.cpp's `bert`): text is cleaned, split into words, and each into pieces."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from localllm.convert import header
from localllm.convert.header import Keys
from localllm.convert.vocabulary.base import NORMAL, Limit, Special, Vocabulary, steps
from localllm.convert.vocabulary.limits import normalizer_limits
from localllm.convert.vocabulary.sentencepiece import MARK
from localllm.convert.vocabulary.tokens import Tokens, check_texts
from localllm.errors import UnsupportedModel

_CONTINUES = "##"


def candidates(
    document: Mapping[str, Any], tokens: Tokens, special: Special, templates: Mapping[str, str]
) -> list[Vocabulary]:
    """The vocabulary; there is one way to write it.

    Raises:
        UnsupportedModel: pieces are marked in a way that llama.cpp has not, or a token that it needs is missing.
    """
    model = document["model"]
    if model.get("continuing_subword_prefix", _CONTINUES) != _CONTINUES:
        raise UnsupportedModel(f"A WordPiece whose pieces begin with {model['continuing_subword_prefix']!r}, not '##'.")
    ids = dict(special.ids)
    if model.get("unk_token") in tokens.texts:
        ids["unk"] = tokens.texts.index(model["unk_token"])
    ids.setdefault("sep", ids["eos"])
    if "bos" not in ids or "unk" not in ids:
        raise UnsupportedModel("A WordPiece vocabulary without [CLS] or [UNK], which llama.cpp needs.")
    extra, limits = _normalizer(document)
    return [
        Vocabulary(
            model="bert",
            # Without a meaning for this kind; it is what the reference converter writes for BERT in lower case.
            pre="jina-v2-en",
            tokens=_phantom_spaces(tokens),
            types=tokens.types,
            special=Special(ids, special.stops, special.adds, special.stated),
            templates=templates,
            trailing=extra,
            limits=(*limits, _long_words(int(model.get("max_input_chars_per_word", 100)))),
        )
    ]


def _phantom_spaces(tokens: Tokens) -> tuple[str, ...]:
    """Pieces as llama.cpp wants them: the marks are at the beginnings of words, not inside."""
    texts = tuple(
        text[len(_CONTINUES) :]
        if kind == NORMAL and text.startswith(_CONTINUES) and text != _CONTINUES
        else MARK + text
        if kind == NORMAL
        else text
        for text, kind in zip(tokens.texts, tokens.types, strict=True)
    )
    check_texts(texts)
    return texts


def _normalizer(document: Mapping[str, Any]) -> tuple[Keys, tuple[Limit, ...]]:
    """The keys that switch cleaning on and off, and what llama.cpp does differently."""
    normalizers = steps(document.get("normalizer"), "normalizers")
    bert = next((step for step in normalizers if step.get("type") == "BertNormalizer"), None)
    kinds = {step.get("type") for step in normalizers}
    lowercase = bool(bert.get("lowercase", True)) if bert else "Lowercase" in kinds
    strips = bert.get("strip_accents") if bert else "StripAccents" in kinds
    limits = list(normalizer_limits(normalizers, ("BertNormalizer", "Lowercase", "StripAccents", "NFD")))
    if strips or (strips is None and lowercase):
        limits.append(_ACCENTS)
    if bert and not bert.get("handle_chinese_chars", True):
        limits.append(_CHINESE)
    keys: Keys = {"tokenizer.ggml.normalizer.lowercase": header.flag(lowercase)}
    if isinstance(strips, bool):
        keys["tokenizer.ggml.normalizer.strip_accents"] = header.flag(strips)
    return keys, tuple(limits)


def _decomposes_differently(text: str) -> bool:
    """Whether llama.cpp loses more than accents: it removes all marks, and keeps only the first part of a syllable."""
    parts = unicodedata.normalize("NFD", text)
    return any(unicodedata.category(part) in ("Mc", "Me") or "\u1100" <= part <= "\u11ff" for part in parts)


_ACCENTS = Limit(
    "where it removes accents, llama.cpp also removes vowel signs of Indic scripts and all but the first letter of "
    "Korean syllables",
    _decomposes_differently,
    tolerated=True,
)
_CHINESE = Limit(
    "llama.cpp makes a word of every Chinese character",
    lambda text: any(unicodedata.name(part, "").startswith("CJK") for part in text),
)


def _long_words(most: int) -> Limit:
    return Limit(
        f"llama.cpp splits words of more than {most} characters, which are unknown to the checkpoint's tokenizer",
        lambda text: any(len(word) > most for word in text.split()),
        tolerated=True,
    )
