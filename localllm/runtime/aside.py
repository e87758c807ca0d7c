"""What a load does beside llama.cpp, in the thread that asked for it, while another one reads the weights.

Half of what Python does for a load is not needed before: the imports for answers, the sizes that only a simulated load
knows, what the catalogue recommends. llama.cpp needs no Python for most of that time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from localllm.errors import Cancelled
from localllm.native import log
from localllm.runtime.types import Plan


class Aside:
    """One load's work beside it. The thread that loads says when; another one does it; the first has its result."""

    def __init__(self) -> None:
        self._reading, self._read, self._over = (threading.Event() for _ in range(3))
        self._work: Callable[[], Plan] | None = None
        self._plan: Plan | None = None

    def weights_are_read(self) -> None:
        """For the thread that loads: llama.cpp begins with the weights."""
        self._reading.set()

    def context_is_made(self, work: Callable[[], Plan]) -> None:
        """The same: llama.cpp begins with the context, and `work` is to make the plan in full.

        Not before: to put weights in another order it takes all cores, for a context one.
        """
        self._work = work
        self._read.set()

    def ended(self) -> None:
        """The same: nothing more is to be done."""
        self._reading.set()
        self._read.set()

    def plan(self) -> Plan:
        """The same: what `work` made.

        Raises:
            Cancelled: it failed or was given up; the other thread raises why.
        """
        self._over.wait()
        if self._plan is None:
            raise Cancelled("Loading was stopped.")
        return self._plan

    def give_up(self) -> None:
        """Let the thread that loads wait no more."""
        self._over.set()

    def run(self) -> None:
        """For the other thread: do it when it is time. Raises what `work` does."""
        self._reading.wait()
        _import_the_rest()
        self._read.wait()
        if self._work is None:
            return
        try:
            # What is logged in it is not of the load, whose log counts for this thread.
            self._plan = log.counted_for(log.Heard(), self._work)
        finally:
            self._over.set()


def _import_the_rest() -> None:
    """Import what answers need, jinja2 with it."""
    from localllm import chat_template  # noqa: F401
    from localllm.runtime import engine, forecast, reply, session  # noqa: F401
