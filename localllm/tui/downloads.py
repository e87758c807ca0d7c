"""A model comes to this machine while the chat goes on: one download at a time, in a thread of its own.

Cancelled, it keeps what has arrived, and starting it again resumes. Knows nothing of widgets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.message import Message

from localllm import paths
from localllm.errors import Cancelled, LocalLLMError
from localllm.native import log
from localllm.tui import background
from localllm.tui.amounts import size
from localllm.tui.messages import DownloadEnded, DownloadMoved

TOLD_S = 0.5
"""Progress is told so often."""

Post = Callable[[Message], object]


class Downloads:
    """Progress and end come as messages. All methods are for the app's thread."""

    def __init__(self, post: Post, crashed: Callable[[BaseException], object]) -> None:
        self.name = ""
        self._post = post
        self._crashed = crashed
        self._cancelled = threading.Event()

    def start(self, name: str) -> bool:
        """Fetch the model of that name. False if another one is under way."""
        if self.name:
            return False
        self.name, self._cancelled = name, threading.Event()
        told = _Told(name, self._cancelled, self._post)
        background.start(lambda: self._run(name, told), "download", self._crashed)
        return True

    def cancel(self) -> None:
        """Stop; what has arrived stays."""
        self._cancelled.set()

    def ended(self) -> None:
        """The end was heard of: another one may begin."""
        self.name = ""

    def _run(self, name: str, told: _Told) -> None:
        try:
            from localllm.library import pulling

            found = pulling.look_up(name, remark=told.remark)
            if found.converts:
                # In this process, where llama.cpp would write on the screen.
                log.to_file(paths.log_file())
                told.converts = True
            path = found.fetch(told.progress).path
        except LocalLLMError as error:
            self._post(DownloadEnded(name, None, error))
        else:
            self._post(DownloadEnded(name, path, None))


class _Told:
    """What is told of one download. Hears of progress in the thread that downloads, and ends it there."""

    def __init__(self, name: str, cancelled: threading.Event, post: Post) -> None:
        self.converts = False
        self._name, self._cancelled, self._post = name, cancelled, post
        self._began, self._told, self._first = time.monotonic(), 0.0, -1

    def progress(self, done: int, total: int) -> None:
        """So much is here."""
        now = time.monotonic()
        if self._first < 0:
            self._first, self._began = done, now
        is_over = self._cancelled.is_set()
        if is_over or now - self._told >= TOLD_S:
            self._told = now
            rate = (done - self._first) / max(now - self._began, TOLD_S)
            self._post(DownloadMoved(self._name, done, total, rate, converts=self.converts))
        if is_over:
            part = f"{done / max(total, 1):.0%}" if self.converts else f"{size(done)} of {size(total)}"
            raise Cancelled(f"The download of {self._name} was stopped. {part} stay here; Enter goes on.")

    def remark(self, text: str) -> None:
        """Something is waited for, or was found instead."""
        if self._cancelled.is_set():
            raise Cancelled(f"The download of {self._name} was stopped.")
        self._post(DownloadMoved(self._name, 0, 0, 0.0, remark=text))
