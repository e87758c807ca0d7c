"""What of the conversations of a context goes to disk, and when reading it again is faster than computing it.

Knows no KV cache; `snapshots` knows the files.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable

from localllm.runtime.snapshots import Snapshots
from localllm.runtime.states import State

WORTH_A_FILE = 32
"""Tokens. Computing fewer again is as cheap as finding them on disk, see docs/experiments.md; and a chat of a question
and an answer holds more."""

KEEP_SECONDS = 2
"""How long closing may take to write conversations to disk."""


class Disk:
    """The states in `snapshots`; without them it wants nothing and has nothing."""

    def __init__(self, snapshots: Snapshots | None) -> None:
        self._snapshots = snapshots

    def bytes(self) -> int:
        """Bytes of what is there."""
        return self._snapshots.bytes() if self._snapshots is not None else 0

    def wants(self, tokens: array[int]) -> bool:
        """Whether a state of `tokens` is worth a file, and there is none yet."""
        return self._snapshots is not None and len(tokens) >= WORTH_A_FILE and not self._snapshots.covers(tokens)

    def put(self, state: State, deadline: float = float("inf")) -> None:
        """Write a state that is worth it, by `deadline`, a time of `time.monotonic()`."""
        if self._snapshots is not None and self.wants(state.tokens):
            self._snapshots.put(state.tokens, state.data, deadline=deadline)

    def keep(self, states: Iterable[State]) -> None:
        """Write states, the first of them first, as far as time and the budget allow."""
        if self._snapshots is None:
            return
        deadline, left = time.monotonic() + KEEP_SECONDS, self._snapshots.budget
        for state in states:
            left -= len(state.data)
            if left < 0 or time.monotonic() > deadline:
                break
            self.put(state, deadline)

    def spared(self, prompt: array[int], least: int) -> int:
        """How many tokens of `prompt` need not be computed, if that is enough more than `least` to be worth reading
        them; else 0.
        """
        spared = self._snapshots.best(prompt)[1] if self._snapshots is not None else 0
        return spared if spared >= least + WORTH_A_FILE else 0

    def find(self, prompt: array[int], least: int) -> tuple[State, int] | None:
        """The best state and what it spares, if that is enough more than `least` to be worth reading it."""
        while self._snapshots is not None:
            snapshot, spared = self._snapshots.best(prompt)
            if snapshot is None or spared < least + WORTH_A_FILE:
                break
            data = self._snapshots.load(snapshot)
            if data is not None:
                # One that only begins as the prompt does may be of a chat that was deleted: it is not kept for that.
                if spared >= len(snapshot.tokens) - 1:
                    self._snapshots.used(snapshot)
                return State(snapshot.tokens, data), spared
        return None

    def clear(self) -> None:
        """Remove what is good for this model."""
        if self._snapshots is not None:
            self._snapshots.clear()
