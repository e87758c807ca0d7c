"""Token ids as arrays of 32-bit integers, and how much two of them share. Knows no model."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Protocol, TypeVar


def shared(one: array[int], other: array[int]) -> int:
    """How many tokens both begin with.

    Compares slices in halves: the interpreter's own comparison of arrays is a hundred times faster than a loop.
    """
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def starts_with(tokens: array[int], prefix: array[int]) -> bool:
    """Whether `tokens` begin with all of `prefix`."""
    return tokens[: len(prefix)] == prefix


class Held(Protocol):
    """Anything that was computed for some tokens."""

    @property
    def tokens(self) -> array[int]:
        """Which ones."""


H = TypeVar("H", bound=Held)


def best_start(held: Iterable[H], prompt: array[int], *, whole: bool) -> tuple[H | None, int]:
    """What spares the most of `prompt`, and how many tokens that is; the last one is never spared.

    With `whole` it can be taken up only where it ends.
    """
    best, most = None, 0
    for one in held:
        length = min(shared(one.tokens, prompt), len(prompt) - 1)
        if length > most and (not whole or length == len(one.tokens)):
            best, most = one, length
    return best, most
