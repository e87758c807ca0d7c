"""How the machine is, beside the model: memory left, swap, the app itself; what it was lately; when to warn.

Knows nothing of widgets or of the model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from localllm.runtime.types import MemorySample
from localllm.tui.amounts import size

LOW_SHARE, LOW_BYTES = 0.04, 512 << 20
"""Memory is low when less than this share of it, and less than so many bytes, is left."""

GROWTH_BYTES, GROWTH_S = 64 << 20, 30.0
"""Swap grows when it grew by so much within so many seconds."""

KEPT = 240
"""Samples that are remembered: some minutes."""


@dataclass(frozen=True)
class Machine:
    """Memory of this computer in bytes: what is available of `total`, what is swapped out, and what the app takes.

    `taken` is a time of `time.monotonic()`.
    """

    available: int
    total: int
    swap_used: int
    app: int
    taken: float


def machine() -> Machine:
    """How it is now."""
    import psutil  # takes 5 ms, and is not needed for the first picture

    memory = psutil.virtual_memory()
    # Some containers hide the system's swap; then there is none that could grow.
    try:
        swapped = psutil.swap_memory().used
    except (OSError, RuntimeError):
        swapped = 0
    return Machine(memory.available, memory.total, swapped, psutil.Process().memory_info().rss, time.monotonic())


class History:
    """The last minutes: of the engine's process, the app and what was taken on the machine, in bytes."""

    def __init__(self) -> None:
        self._engine: deque[int] = deque(maxlen=KEPT)
        self._taken: deque[int] = deque(maxlen=KEPT)
        self._kv: deque[int] = deque(maxlen=KEPT)

    def add(self, memory: MemorySample, now: Machine) -> None:
        """Remember a sample."""
        self._engine.append(memory.process)
        self._kv.append(memory.kv_used)
        self._taken.append(now.total - now.available)

    def lines(self) -> list[tuple[str, Sequence[int]]]:
        """What is remembered, each with its name, oldest first."""
        return [
            ("engine's process", list(self._engine)),
            ("KV cache in use", list(self._kv)),
            ("taken on the machine", list(self._taken)),
        ]


class SwapWatch:
    """Tells once that the machine is about to swap, and again only after it had room in between."""

    def __init__(self) -> None:
        self._seen: deque[Machine] = deque(maxlen=KEPT)
        self._warned = False

    def look(self, now: Machine) -> str:
        """A warning, or nothing."""
        self._seen.append(now)
        while now.taken - self._seen[0].taken > GROWTH_S:
            self._seen.popleft()
        grown = now.swap_used - min(seen.swap_used for seen in self._seen)
        low = now.available < min(LOW_BYTES, LOW_SHARE * now.total)
        if not low and grown < GROWTH_BYTES:
            self._warned = self._warned and now.available < 2 * LOW_BYTES
            return ""
        if self._warned:
            return ""
        self._warned = True
        if grown >= GROWTH_BYTES:
            return f"The machine is swapping: {size(grown)} in the last {GROWTH_S:.0f} seconds. Replies will be slow."
        return f"Memory is almost full: {size(now.available)} left, then the machine swaps and replies are slow."
