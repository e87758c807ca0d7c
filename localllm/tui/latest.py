"""A thread that answers the latest of many questions, and drops those that came before it.

Knows nothing of what is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from localllm.tui import background

Q = TypeVar("Q")

PAUSE_S = 0.25
"""Nobody has typed for so long when a question is answered."""


class Latest(Generic[Q]):
    """Calls `answer` in its thread, with the latest question, when nothing was asked for a moment."""

    def __init__(self, answer: Callable[[Q], object], name: str) -> None:
        self._answer = answer
        self._name = name
        self._asked = threading.Event()
        self._question: list[Q] = []
        self._closed = False

    def start(self, crashed: Callable[[BaseException], object]) -> None:
        """Begin; a mistake of ours goes to `crashed`."""
        background.start(self._work, self._name, crashed)

    def ask(self, question: Q) -> None:
        """Answer this, and nothing that was asked before."""
        self._question = [question]
        self._asked.set()

    def is_old(self) -> bool:
        """Whether something else was asked since, or nobody wants to know any more."""
        return self._closed or self._asked.is_set()

    def close(self) -> None:
        """End; what is being answered is not told."""
        self._closed = True
        self._asked.set()

    def _work(self) -> None:
        while self._asked.wait() and not self._closed:
            while self._asked.is_set() and not self._closed:
                self._asked.clear()
                time.sleep(PAUSE_S)
            if not self._closed:
                self._answer(*self._question)
