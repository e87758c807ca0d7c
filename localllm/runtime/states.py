"""States of sequences that are not in the KV cache now, kept in RAM under a budget of bytes. Knows no llama.cpp."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from localllm.runtime.tokens import best_start, starts_with


@dataclass(frozen=True)
class State:
    """What the KV cache held for `tokens`."""

    tokens: array[int]
    data: bytearray


class States:
    """The states, the least recently used first. `whole` ones can be taken up only where they end.

    That is so for models that cannot go back: their states at different lengths of one conversation are all worth
    keeping, where otherwise the longest one stands for all. `dropped` is called with each that had to give way.
    """

    def __init__(self, budget: int, *, whole: bool, dropped: Callable[[State], None] = lambda _: None) -> None:
        self._budget, self._whole, self._dropped = budget, whole, dropped
        self._held: OrderedDict[bytes, State] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Bytes of RAM in use."""
        return sum(len(state.data) for state in list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def fits(self, size: int) -> bool:
        """Whether a state of `size` bytes is small enough to be kept at all."""
        return size <= self._budget

    def has_room(self, tokens: array[int], size: int) -> bool:
        """Whether a state of `size` bytes is kept without one of another conversation giving way."""
        replaced = sum(len(state.data) for state in self._outgrown(tokens))
        return self.bytes - replaced + size <= self._budget

    def put(self, tokens: array[int], data: bytearray) -> None:
        """Keep a state; older ones give way, and one that is larger than the budget at once."""
        if not self.fits(len(data)):
            self._dropped(State(tokens[:], data))
            return
        for state in self._outgrown(tokens):
            del self._held[state.tokens.tobytes()]
        key = tokens.tobytes()
        self._held[key] = State(tokens[:], data)
        self._held.move_to_end(key)
        while self.bytes > self._budget:
            self._dropped(self._held.popitem(last=False)[1])

    def _outgrown(self, tokens: array[int]) -> list[State]:
        """The states that one of `tokens` stands for, too."""
        return [state for state in self._held.values() if not self._whole and starts_with(tokens, state.tokens)]

    def held(self) -> list[State]:
        """All of them, the least recently used first."""
        return list(self._held.values())

    def best(self, prompt: array[int]) -> tuple[State | None, int]:
        """The state that spares the most of `prompt`, and how many tokens that is; the last one is never spared."""
        return best_start(self._held.values(), prompt, whole=self._whole)

    def covers(self, tokens: array[int]) -> bool:
        """Whether a state is there that begins with `tokens`, or with `whole` is exactly of them."""
        if self._whole:
            return tokens.tobytes() in self._held
        return any(starts_with(state.tokens, tokens) for state in self._held.values())

    def touch(self, state: State) -> None:
        """Mark a state as used now, if it is still kept."""
        key = state.tokens.tobytes()
        if key in self._held:
            self._held.move_to_end(key)

    def clear(self) -> None:
        """Drop all of them."""
        self._held.clear()
