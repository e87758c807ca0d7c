"""States of sequences that are not in the KV cache now, kept in RAM under a budget of bytes. Knows no llama.cpp."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from dataclasses import dataclass

from localllm.runtime.tokens import shared, starts_with


@dataclass(frozen=True)
class State:
    """What the KV cache held for `tokens`."""

    tokens: array[int]
    data: bytearray


class States:
    """The states, the least recently used first. `whole` ones can be taken up only where they end.

    That is so for models that cannot go back: their states at different lengths of one conversation are all worth
    keeping, where otherwise the longest one stands for all.
    """

    def __init__(self, budget: int, *, whole: bool) -> None:
        self._budget, self._whole = budget, whole
        self._held: OrderedDict[bytes, State] = OrderedDict()

    @property
    def bytes(self) -> int:
        """Bytes of RAM in use."""
        return sum(len(state.data) for state in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def fits(self, size: int) -> bool:
        """Whether a state of `size` bytes is small enough to be kept at all."""
        return size <= self._budget

    def put(self, tokens: array[int], data: bytearray) -> None:
        """Keep a state; older ones give way. One that is larger than the budget is not kept."""
        if not self.fits(len(data)):
            return
        if not self._whole:
            for key in [key for key, state in self._held.items() if starts_with(tokens, state.tokens)]:
                del self._held[key]
        key = tokens.tobytes()
        self._held[key] = State(tokens[:], data)
        self._held.move_to_end(key)
        while self.bytes > self._budget:
            self._held.popitem(last=False)

    def best(self, prompt: array[int]) -> tuple[State | None, int]:
        """The state that spares the most of `prompt`, and how many tokens that is; the last one is never spared."""
        best, most = None, 0
        for state in self._held.values():
            length = min(shared(state.tokens, prompt), len(prompt) - 1)
            if length > most and (not self._whole or length == len(state.tokens)):
                best, most = state, length
        return best, most

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
