"""Threads that never keep the app from ending.

Textual's own thread workers are waited for when the app ends; a model that is loading cannot be. Knows nothing of what
the threads do.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Job = Callable[[], None]


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
