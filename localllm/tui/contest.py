"""A comparison that runs in a thread of its own, and what was heard of it since somebody looked.

Knows nothing of widgets.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from localllm.measure.comparing import Comparison, Request, Said, Step
from localllm.tui import background


class Contest:
    """Runs from the beginning; all methods are for the app's thread."""

    def __init__(self, comparison: Comparison, crashed: Callable[[BaseException], object]) -> None:
        self._comparison = comparison
        self._steps: deque[tuple[int, Step]] = deque()
        self._over = threading.Event()
        background.start(self._run, "compare", crashed)

    def _run(self) -> None:
        try:
            self._comparison.run(lambda number, step: self._steps.append((number, step)))
        finally:
            self._over.set()

    @property
    def request(self) -> Request:
        """What both are asked."""
        return self._comparison.request

    @property
    def stopped(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._comparison.stopped

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens; what `take` has yet to give may be there all the same."""
        return self._over.is_set()

    def stop(self) -> None:
        """End it soon, at any stage."""
        self._comparison.stop()

    def take(self) -> Iterator[tuple[int, Step]]:
        """What happened to which contender since the last time; words that follow each other in one go."""
        said: list[Said] = []
        speaker = 0
        while self._steps:
            number, step = self._steps.popleft()
            if isinstance(step, Said):
                speaker = number
                said.append(step)
                continue
            if said:
                yield speaker, _joined(said)
                said.clear()
            yield number, step
        if said:
            yield speaker, _joined(said)


def _joined(said: list[Said]) -> Said:
    """All words, counted and dated as the last of them."""
    return replace(said[-1], text="".join(step.text for step in said))
