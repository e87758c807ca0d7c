"""Threads that never keep the app from ending.

Textual's own thread workers are waited for when the app ends; a model that is loading cannot be. Knows nothing of what
the threads do.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import NoReturn, TypeVar

from localllm.errors import Cancelled

Job = Callable[[], None]
T = TypeVar("T")

LOOK_S = 0.05
"""Who waits for a thread looks so often whether to give up."""


def start(job: Job, name: str, crashed: Callable[[BaseException], object]) -> threading.Thread:
    """Run `job` in a thread of its own; an error that it does not handle itself goes to `crashed`."""

    def run() -> None:
        try:
            job()
        except BaseException as error:
            crashed(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def wait_for(job: Callable[[], T], given_up: threading.Event, too_late: Callable[[T], object]) -> T:
    """What `job` returns, which runs in a thread of its own. Blocks until then, or until soon after `given_up` is set.

    What it still returns after that goes to `too_late`.

    Raises:
        Cancelled: it was given up; and whatever `job` raises.
    """
    ended: queue.SimpleQueue[Callable[[], T]] = queue.SimpleQueue()

    def run() -> None:
        try:
            made = job()
        except BaseException as error:
            ended.put(partial(_again, error))
        else:
            ended.put(lambda: made)

    def discard() -> None:
        with contextlib.suppress(Exception):
            too_late(ended.get()())

    threading.Thread(target=run, name="waited for", daemon=True).start()
    while not given_up.is_set():
        with contextlib.suppress(queue.Empty):
            return ended.get(timeout=LOOK_S)()
    threading.Thread(target=discard, name="too late", daemon=True).start()
    raise Cancelled("It was given up.")


def _again(error: BaseException) -> NoReturn:
    raise error


class Queue:
    """Jobs in one thread, in the order they came: what is asked of the disk."""

    def __init__(self, name: str, crashed: Callable[[BaseException], object]) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._crashed = crashed
        self._thread = start(self._work, name, crashed)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:
                self._crashed(error)

    def put(self, job: Job) -> None:
        """Do `job` after all that came before."""
        self._jobs.put(job)

    def close(self, timeout: float) -> None:
        """Do what was asked, then end; wait at most `timeout` seconds."""
        self._jobs.put(None)
        self._thread.join(timeout)
