"""BPE with byte fallback, as SentencePiece makes it: spaces are marked, merges run over whole texts.

llama.cpp has it as `llama`, which merges by the scores of tokens, and as `gemma4` and `sarvam-moe`, which merge by the
list of merges. `verify` says which of them gives the checkpoint's tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from localllm.convert.vocabulary.base import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Limit,
    Special,
    Vocabulary,
    space_prefix,
    steps,
)
from localllm.convert.vocabulary.byte_level import merge_text
from localllm.convert.vocabulary.limits import normalizer_limits
from localllm.convert.vocabulary.tokens import Tokens, check_texts
from localllm.errors import UnsupportedModel

MARK = "\u2581"
"""What stands for a space."""

UNUSED_SCORE, ADDED_SCORE = -10000.0, -1000.0
"""What the reference converter gives to rows without a token, and to tokens that no SentencePiece model has."""

BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
_PREPEND = {"type": "Prepend", "prepend": MARK}


def candidates(
    document: Mapping[str, Any],
    scores: Mapping[str, float],
    tokens: Tokens,
    special: Special,
    templates: Mapping[str, str],
) -> list[Vocabulary]:
    """The vocabulary as each kind that llama.cpp has, with a space before a text as the tokenizer puts it.

    `scores` are those of a SentencePiece model; without, merges give the order.

    Raises:
        UnsupportedModel: llama.cpp cannot hold the tokens, or there are no merges.
    """
    model = document["model"]
    merges = model.get("merges") or ()
    if not merges:
        raise UnsupportedModel("The tokenizer is a BPE without merges, which llama.cpp does not have.")
    texts, types = _texts(tokens, model.get("unk_token"))
    prefixes, limits = _spaces(document)
    common: dict[str, Any] = {
        "tokens": texts,
        "types": types,
        "special": special,
        "templates": templates,
        "limits": limits,
    }
    by_score = [
        Vocabulary("llama", "default", scores=found, leading=space_prefix(prefix), fits=len(prefixes) == 1, **common)
        for prefix in prefixes
        for found in _all_scores(texts, types, merges, scores)
    ]
    if True in prefixes and len(prefixes) == 1:
        return by_score
    pairs = tuple(merge_text(merge, MARK) for merge in merges)
    by_merge = [
        Vocabulary(kind, pre, merges=pairs, leading=space_prefix(False), fits=False, **common)
        for kind, pre in (("gemma4", "gemma4"), ("gpt2", "sarvam-moe"))
        # llama.cpp puts a token before every text with this one, whatever the file says.
        if kind != "gemma4" or special.adds.get("bos")
    ]
    return by_score + by_merge


def _texts(tokens: Tokens, unknown: str | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Texts and types with those of SentencePiece: single bytes, and what stands for an unknown character."""
    types = [
        BYTE
        if kind == NORMAL and BYTE_TOKEN.fullmatch(text)
        else UNKNOWN
        if kind in (NORMAL, CONTROL) and text == unknown
        else kind
        for text, kind in zip(tokens.texts, tokens.types, strict=True)
    ]
    texts = tuple(
        text.replace(MARK, " ") if kind == USER_DEFINED else text
        for text, kind in zip(tokens.texts, types, strict=True)
    )
    check_texts(texts)
    missing = sorted({f"<0x{byte:02X}>" for byte in range(256)}.difference(texts))
    if missing:
        # llama.cpp ends the process over a byte that it cannot spell.
        raise UnsupportedModel(
            f"{len(missing)} of the 256 byte tokens are missing ({missing[0]} …): llama.cpp has no such vocabulary."
        )
    return texts, tuple(types)


def _all_scores(
    texts: Sequence[str], types: Sequence[int], merges: Sequence[Any], scores: Mapping[str, float]
) -> list[tuple[float, ...]]:
    """The checkpoint's own scores if it has them, and those that give the order of the merges."""
    ranked = _ranked(texts, types, merges)
    if not scores:
        return [ranked]
    rest = {UNUSED: UNUSED_SCORE}
    own = tuple(scores.get(text, rest.get(kind, ADDED_SCORE)) for text, kind in zip(texts, types, strict=True))
    return [own, ranked]


def _ranked(texts: Sequence[str], types: Sequence[int], merges: Sequence[Any]) -> tuple[float, ...]:
    """Scores that make llama.cpp merge in the order of the merges: it takes the best score first.

    A token's is minus the rank of the first merge that makes it; what no merge makes comes last.
    """
    ranks: dict[str, int] = {}
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        ranks.setdefault(left + right, len(ranks))
    rest = len(ranks)
    scores = []
    for text, kind in zip(texts, types, strict=True):
        if kind == NORMAL and text not in ranks:
            scores.append(-float(rest))
            rest += 1
        else:
            scores.append(-float(ranks[text]) if kind == NORMAL else 0.0)
    return tuple(scores)


def _spaces(document: Mapping[str, Any]) -> tuple[tuple[bool, ...], tuple[Limit, ...]]:
    """Whether a text gets a space in front, or both answers where that is not known, and what llama.cpp leaves out."""
    normalizers = steps(document.get("normalizer"), "normalizers")
    marking = [step for step in normalizers if step in (_PREPEND, _REPLACE)]
    # Once spaces are marked, a step that splits at them does nothing.
    splits = [step for step in steps(document.get("pre_tokenizer"), "pretokenizers") if not _at_spaces(step)]
    limits = normalizer_limits([step for step in normalizers if step not in marking])
    if not splits and marking == [_PREPEND, _REPLACE]:
        return (True,), limits
    if not splits and marking == [_REPLACE]:
        return (False,), limits
    if len(splits) == 1 and splits[0].get("type") == "Metaspace" and splits[0].get("replacement") == MARK:
        return (prepends_space(splits[0]),), limits
    return (True, False), limits


def _at_spaces(step: Mapping[str, Any]) -> bool:
    return step.get("type") == "Split" and step.get("pattern") == {"String": " "}


def prepends_space(metaspace: Mapping[str, Any]) -> bool:
    """Whether a Metaspace step puts a space in front, in its present and its older spelling."""
    return bool(
        metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space", True) else "never") != "never"
    )
