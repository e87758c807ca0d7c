"""The text and the type of every row of an embedding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.convert.vocabulary.base import CONTROL, NORMAL, UNUSED, USER_DEFINED
from localllm.errors import BadCheckpoint, UnsupportedModel

# What models emit as marks although their tokenizers do not call it special. llama.cpp must not read it in plain text.
_LOOKS_SPECIAL = re.compile(r"<\|.*\|>|<｜.*｜>|<unused.*>|<pad>|<mask>|<2mass>|\[@BOS@\]", re.DOTALL)

_SHOWN = frozenset(
    f"{left}{name}{right}"
    for name in ("channel", "tool_call", "tool_response")
    for left, right in (("<|", ">"), ("<", "|>"))
) | {'<|"|>'}
"""Marks of Gemma 4 around its thoughts and calls of tools: whoever reads its answer needs them, special or not."""


@dataclass(frozen=True)
class Tokens:
    """Texts and types by id, of as many tokens as the embedding has rows."""

    texts: tuple[str, ...]
    types: tuple[int, ...]


def gather(title: str, vocabulary: Iterable[tuple[str, int]], added: Sequence[Mapping[str, Any]], rows: int) -> Tokens:
    """All tokens, [PADn] where the tokenizer has none. `added` are the `added_tokens` of tokenizer.json.

    Raises:
        BadCheckpoint: two tokens have one id, or one is beyond the embedding.
    """
    texts: dict[int, str] = {}
    for text, number in vocabulary:
        if texts.setdefault(number, text) != text:
            raise BadCheckpoint(f"{title}: the tokenizer gives the id {number} to {texts[number]!r} and to {text!r}.")
    kinds: dict[int, int] = {}
    for token in added:
        number, text = int(token["id"]), str(token["content"])
        texts[number] = text
        special = token.get("special") or _LOOKS_SPECIAL.fullmatch(text)
        kinds[number] = CONTROL if special and text not in _SHOWN else USER_DEFINED
    highest = max(texts, default=-1)
    if not texts or highest >= rows or min(texts) < 0:
        raise BadCheckpoint(
            f"{title}: the tokenizer has the token id {highest}, but the embedding has {rows} rows.",
            hint="The tokenizer belongs to another checkpoint.",
        )
    return Tokens(
        tuple(texts.get(number, f"[PAD{number}]") for number in range(rows)),
        tuple(kinds.get(number, NORMAL if number in texts else UNUSED) for number in range(rows)),
    )


def check_texts(texts: Sequence[str]) -> None:
    """Refuse texts that llama.cpp cannot tell apart: it cuts at a NUL, and ends the process over two equal ones.

    Raises:
        UnsupportedModel: two tokens have one text, or a text holds a NUL.
    """
    first: dict[str, int] = {}
    for number, text in enumerate(texts):
        if "\0" in text:
            raise UnsupportedModel(f"The token {text!r} (id {number}) holds a NUL, where llama.cpp would cut it.")
        if first.setdefault(text, number) != number:
            raise UnsupportedModel(
                f"The tokens {first[text]} and {number} are both {text!r}; llama.cpp cannot tell them apart."
            )
