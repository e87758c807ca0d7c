"""What a load does beside llama.cpp, in the thread that asked for it, while another one reads the weights.

Half of what Python does for a load is not needed before: the imports for answers, the sizes that only a simulated load
knows, what the catalogue recommends. llama.cpp needs no Python for most of that time.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

from localllm.errors import Cancelled
from localllm.native import log
from localllm.runtime.types import Plan

SWITCH_SECONDS = 1e-4
"""How long a thread that has something from llama.cpp to hear, a line of its log, waits for Python's lock meanwhile."""


class Aside:
    """One load's work beside it: handed over by the thread that loads, done by the other, and its result awaited."""

    def __init__(self) -> None:
        self._begun, self._over = threading.Event(), threading.Event()
        self._work: Callable[[], Plan] | None = None
        self._plan: Plan | None = None

    def begin(self, work: Callable[[], Plan] | None = None) -> None:
        """The thread that loads has llama.cpp read the weights from here on, and wants the plan that `work` makes.

        None: it has ended, perhaps before that.
        """
        self._work = self._work or work
        self._begun.set()

    def plan(self) -> Plan:
        """What `work` made, for the thread that loads.

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
        """Do it, once there is something to do. Raises what `work` does."""
        self._begun.wait()
        if self._work is None:
            return
        try:
            with _quick_to_switch():
                _import_the_rest()
                # What is logged in it is not of the load, whose log counts for this thread.
                self._plan = log.counted_for(log.Heard(), self._work)
        finally:
            self._over.set()


_loads = 0
_usual_seconds = 0.0
_counting = threading.Lock()


@contextlib.contextmanager
def _quick_to_switch() -> Iterator[None]:
    """Inside the block, threads that hear of llama.cpp wait for Python's lock no longer than `SWITCH_SECONDS`."""
    global _loads, _usual_seconds
    with _counting:
        if not _loads:
            _usual_seconds = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual_seconds, SWITCH_SECONDS))
        _loads += 1
    try:
        yield
    finally:
        with _counting:
            _loads -= 1
            if not _loads:
                sys.setswitchinterval(_usual_seconds)


def _import_the_rest() -> None:
    """Import what answers need, numpy and jinja2 with it."""
    import psutil  # noqa: F401

    from localllm import chat_template  # noqa: F401
    from localllm.runtime import draft_model, engine, forecast, reading, reply, session  # noqa: F401
