"""Sets of characters, and how a JSON string writes them. A set is sorted, disjoint, inclusive ranges of code points."""

from __future__ import annotations

from collections.abc import Iterable

from localllm.runtime.grammar.rules import either, literal

CharSet = tuple[tuple[int, int], ...]

LAST = 0x10FFFF
SURROGATES: CharSet = ((0xD800, 0xDFFF),)

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def charset(ranges: Iterable[tuple[int, int]]) -> CharSet:
    """The set of all characters in some ranges."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def of(text: str) -> CharSet:
    """The set of the characters of `text`."""
    return charset((ord(character), ord(character)) for character in text)


def all_but(excluded: CharSet) -> CharSet:
    """Every character that is not in `excluded`."""
    left, at = [], 0
    for low, high in excluded:
        if low > at:
            left.append((at, low - 1))
        at = high + 1
    if at <= LAST:
        left.append((at, LAST))
    return tuple(left)


def minus(one: CharSet, other: CharSet) -> CharSet:
    """The characters of `one` that are not in `other`."""
    return all_but(charset([*all_but(one), *other]))


UNESCAPED = all_but(charset([(0, 0x1F), (0x7F, 0x7F), *of('"\\'), *SURROGATES]))
"""What stands for itself in a JSON string; the delete character may as well, but nobody wants to see it."""


def as_class(chars: CharSet) -> str | None:
    """The class of GBNF that is that set; None if it is empty."""
    if not chars:
        return None
    ends = (_written(low) + ("-" + _written(high) if high > low else "") for low, high in chars)
    return "[" + "".join(ends) + "]"


def _written(code: int) -> str:
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\U{code:08X}"


def in_json(chars: CharSet) -> str | None:
    """An expression for one of these characters as it stands in a JSON string; None if there is none.

    Of control characters those that JSON has a letter for are taken, the others only where there is nothing else.
    """
    escaped = [literal(_ESCAPES[character]) for character in _ESCAPES if not minus(of(character), chars)]
    if found := either([as_class(minus(chars, all_but(UNESCAPED))), *escaped]):
        return found
    control = (code for low, high in chars for code in range(low, min(high, 0x1F) + 1))
    return either(literal(f"\\u{code:04x}") for code in control)
