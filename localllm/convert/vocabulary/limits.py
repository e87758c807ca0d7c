"""What llama.cpp does not do before it tokenizes, in words, and which texts that can change.

A limit excuses nothing by itself: `verify` compares every text, and names a limit only where ids really differ.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from localllm.convert.vocabulary.base import Limit


def _form(form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> Callable[[str], bool]:
    return lambda text: unicodedata.normalize(form, text) != text


def _lowers(text: str) -> bool:
    return text.lower() != text


def _any(_: str) -> bool:
    return True


_STEPS: Mapping[str, tuple[str, Callable[[str], bool]]] = {
    "NFC": ("compose characters (NFC)", _form("NFC")),
    "NFD": ("decompose characters (NFD)", _form("NFD")),
    "NFKC": ("replace characters by compatible ones (NFKC)", _form("NFKC")),
    "NFKD": ("replace characters by compatible ones (NFKD)", _form("NFKD")),
    "Lowercase": ("change to lower case", _lowers),
    "StripAccents": ("remove accents", _form("NFD")),
    "Precompiled": ("replace characters as SentencePiece does", _any),
    "Strip": ("cut off spaces", lambda text: text.strip() != text),
}


def normalizer_limits(normalizers: Iterable[Mapping[str, Any]], done: Iterable[str] = ()) -> tuple[Limit, ...]:
    """A limit for each step of a normalizer of tokenizer.json whose type is not among those `done`.

    Composed characters are what people type, so that a checkpoint whose tokenizer composes them is converted all the
    same, and told. The other steps change ordinary text.
    """
    limits = []
    for step in normalizers:
        kind = str(step.get("type"))
        if kind in done:
            continue
        does, touches = _STEPS.get(kind, (f"do the step {dict(step)} of the normalizer", _any))
        says = f"llama.cpp does not {does} before it tokenizes with this kind of vocabulary"
        limits.append(Limit(says, touches, tolerated=kind == "NFC"))
    return tuple(limits)
