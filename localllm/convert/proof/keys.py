"""The metadata of a file against what its source gives: the numbers a model computes with, and its vocabulary.

Compares values; a whole number is the same in whatever type it is written. Knows no tensor.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.convert.header import Keys
from localllm.gguf_file import Array, Header

_VOCABULARY = "tokenizer."
_LISTS = ("tokenizer.ggml.tokens", "tokenizer.ggml.merges")


@dataclass(frozen=True)
class KeyProof:
    """How many keys were compared. `different` says of each that is not the same what it is; `missing` are those that
    the file does not have."""

    compared: int
    different: Mapping[str, str]
    missing: tuple[str, ...] = ()


def compare_keys(expected: Keys, header: Header, *, but: frozenset[str] = frozenset()) -> KeyProof:
    """Whether the file says of every key in `expected` what it should; keys in `but` do not count."""
    wanted = {name: value.value for name, value in expected.items() if name not in but}
    there = {name: value for name, value in wanted.items() if name in header.metadata}
    pairs = ((name, value, header.metadata[name]) for name, value in there.items())
    different = {name: says for name, value, found in pairs if (says := _difference(value, found))}
    return KeyProof(len(there), different, tuple(name for name in wanted if name not in there))


def model_keys(keys: Keys) -> Keys:
    """Those that describe the network of the model."""
    prefix = f"{keys['general.architecture'].value}."
    return {name: value for name, value in keys.items() if name.startswith(prefix)}


def vocabulary_keys(keys: Keys) -> Keys:
    """Those that describe its tokens."""
    return {name: value for name, value in keys.items() if name.startswith(_VOCABULARY) and "chat_template" not in name}


def is_list_of_tokens(name: str) -> bool:
    """Whether a key holds what every tokenizer must have the same."""
    return name in _LISTS


def _difference(expected: Any, found: Any) -> str:
    """How a value differs, in words, or empty."""
    if isinstance(found, Array) and isinstance(expected, Sequence):
        return "".join(_first(expected, found))
    if isinstance(expected, float) or isinstance(found, float):
        try:
            same = struct.pack("<f", float(expected)) == struct.pack("<f", float(found))
        except (TypeError, ValueError, OverflowError):
            same = False
    else:
        same = type(expected) is type(found) and expected == found
    return "" if same else f"{_short(found)} in the file, {_short(expected)} in the source"


def _first(expected: Sequence[Any], found: Array) -> Iterator[str]:
    if found == expected:
        return
    if len(expected) != len(found):
        yield f"{len(found):,} entries in the file, {len(expected):,} in the source"
        return
    differing = [number for number, pair in enumerate(zip(expected, found, strict=True)) if _difference(*pair)]
    if differing:
        number = differing[0]
        more = f" and {len(differing) - 1:,} more" if len(differing) > 1 else ""
        yield f"entry {number:,} is {_difference(expected[number], found[number])}{more}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
