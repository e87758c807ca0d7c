"""A model comes to this machine while the chat goes on: one download at a time, in a thread of its own.

Cancelled, it keeps what has arrived, and starting it again resumes. Knows nothing of widgets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.message import Message

from localllm.errors import Cancelled, LocalLLMError
from localllm.tui import background
from localllm.tui.messages import DownloadEnded, DownloadMoved

TOLD_S = 0.5
"""Progress is told so often."""


class Downloads:
    """Progress and end come as messages. All methods are for the app's thread."""

    def __init__(self, post: Callable[[Message], object], crashed: Callable[[BaseException], object]) -> None:
        self.name = ""
        self._post = post
        self._crashed = crashed
        self._cancelled = threading.Event()

    def start(self, name: str) -> bool:
        """Fetch the model of that name. False if another one is under way."""
        if self.name:
            return False
        self.name, self._cancelled = name, threading.Event()
        background.start(lambda: self._run(name, self._cancelled), "download", self._crashed)
        return True

    def cancel(self) -> None:
        """Stop; what has arrived stays."""
        self._cancelled.set()

    def ended(self) -> None:
        """The end was heard of: another one may begin."""
        self.name = ""

    def _run(self, name: str, cancelled: threading.Event) -> None:
        began, told, first = time.monotonic(), 0.0, -1

        def progress(done: int, total: int) -> None:
            nonlocal told, first
            if cancelled.is_set():
                raise Cancelled(f"The download of {name} was stopped. What has arrived is kept.")
            now = time.monotonic()
            first = done if first < 0 else first
            if now - told >= TOLD_S:
                told = now
                self._post(DownloadMoved(name, done, total, (done - first) / max(now - began, TOLD_S)))

        try:
            from localllm.library import pulling

            path = pulling.look_up(name).fetch(progress).path
        except LocalLLMError as error:
            self._post(DownloadEnded(name, None, error))
        else:
            self._post(DownloadEnded(name, path, None))
