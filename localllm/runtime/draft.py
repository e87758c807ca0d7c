"""Guesses of the next tokens, which the model then checks several at a time: the same tokens, in fewer steps.

A guess costs the model little where a batch of a few tokens takes hardly longer than one, and a wrong one is thrown
away. Knows no llama.cpp.
"""

from __future__ import annotations

from array import array
from typing import Protocol

MOST = 8
"""Tokens that are guessed at once, of all replies together."""

_GRAM = 3
"""Tokens by which an earlier place in the text is found."""

_FEW, _MANY = 5, 24
"""How many tokens must have been the same before a guess is made: at first, and at most after wrong ones."""


class Drafter(Protocol):
    """Guesses for one reply."""

    def propose(self, tokens: array[int], most: int) -> array[int]:
        """At most `most` tokens that may follow `tokens`, the prompt and all that was sampled; none if nobody knows."""

    def checked(self, proposed: int, accepted: int) -> None:
        """So many of the last guess were proposed and right."""

    def close(self) -> None:
        """The reply is over."""


class Ngrams(Drafter):
    """Guesses that the text goes on as it did where the same tokens stood before: quotations, code that is edited.

    It guesses more after it was right and less after it was wrong, so that text without repetitions costs nothing.
    """

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._read = _GRAM
        self._length = 2
        self._needed = _FEW

    def propose(self, tokens: array[int], most: int) -> array[int]:
        """What followed the last place with the same tokens before it."""
        place = self._places.get(tokens[-_GRAM:].tobytes(), len(tokens))
        self._learn(tokens)
        if place == len(tokens) or self._same_before(tokens, place) < self._needed:
            return array("i")
        return tokens[place : place + min(most, self._length)]

    def _learn(self, tokens: array[int]) -> None:
        """Remember where each run of tokens ends, the last place for each."""
        for end in range(self._read, len(tokens) + 1):
            self._places[tokens[end - _GRAM : end].tobytes()] = end
        self._read = max(self._read, len(tokens) + 1)

    def _same_before(self, tokens: array[int], place: int) -> int:
        count = 0
        while count < min(self._needed, place) and tokens[place - 1 - count] == tokens[-1 - count]:
            count += 1
        return count

    def checked(self, proposed: int, accepted: int) -> None:
        """Longer guesses after right ones; after wrong ones shorter, and only where more was the same before."""
        if accepted == proposed:
            self._length = min(2 * self._length, MOST)
            self._needed = max(_FEW, self._needed // 2)
        else:
            self._length = max(2, accepted)
            if not accepted:
                self._needed = min(2 * self._needed, _MANY)

    def close(self) -> None:
        """Nothing is held."""
