"""Byte-level BPE (llama.cpp's `gpt2`): every byte of a text is a character, and merges make words of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localllm.convert.vocabulary import pretokenizers
from localllm.convert.vocabulary.base import Limit, Special, Vocabulary, space_prefix, steps
from localllm.convert.vocabulary.limits import normalizer_limits
from localllm.convert.vocabulary.splits import adds_space, splits
from localllm.convert.vocabulary.tokens import Tokens, check_texts
from localllm.errors import UnsupportedModel

SPACE = "Ġ"
"""How byte-level BPE writes a space."""

_PREFIX = Limit("llama.cpp does not put a space before a text with byte-level BPE", lambda text: text[:1] != " ")


def is_byte_level(document: Mapping[str, Any]) -> bool:
    """Whether the pre-tokenizer or the normalizer turns text into bytes."""
    parts = steps(document.get("pre_tokenizer"), "pretokenizers") + steps(document.get("normalizer"), "normalizers")
    return any(step.get("type") == "ByteLevel" for step in parts)


def candidates(
    document: Mapping[str, Any],
    settings: Mapping[str, Any],
    tokens: Tokens,
    special: Special,
    templates: Mapping[str, str],
) -> list[Vocabulary]:
    """The vocabulary with each pre-tokenizer of llama.cpp: those with the right structure first, then all others.

    Raises:
        UnsupportedModel: llama.cpp cannot hold the tokens, or there are no merges.
    """
    model = document["model"]
    check_texts(tokens.texts)
    merges = tuple(merge_text(merge, SPACE) for merge in model.get("merges") or ())
    if not merges:
        raise UnsupportedModel("The tokenizer is a BPE without merges, which llama.cpp does not have.")
    fit, others = pretokenizers.fitting(splits(document.get("pre_tokenizer")), bool(model.get("ignore_merges")))
    limits = normalizer_limits(steps(document.get("normalizer"), "normalizers"), done=("ByteLevel",))
    if adds_space(document.get("pre_tokenizer")):
        limits = (_PREFIX, *limits)
    return [
        Vocabulary(
            model="gpt2",
            pre=known.name,
            tokens=tokens.texts,
            types=tokens.types,
            special=special,
            templates=templates,
            merges=merges,
            leading=space_prefix(settings.get("add_prefix_space")),
            limits=(*limits, *known.limits),
            fits=known in fit,
        )
        for known in (*fit, *others)
    ]


def merge_text(merge: str | Sequence[str], space: str) -> str:
    """A merge as GGUF has it: two pieces and a space. A space inside a piece is written as `space`."""
    return merge if isinstance(merge, str) else " ".join(part.replace(" ", space) for part in merge)
