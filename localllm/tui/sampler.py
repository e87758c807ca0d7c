"""Asks the model once a second how its memory stands, in a thread of its own.

Knows nothing of widgets. Sleeps while nobody wants to know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from localllm.errors import LocalLLMError
from localllm.runtime.responder import Responder
from localllm.runtime.types import MemorySample
from localllm.tui import background

PERIOD_S = 1.0


class Sampler:
    """Calls `sampled` with each sample and `lost` when the model does not answer any more; both from its thread."""

    def __init__(
        self,
        model: Callable[[], Responder | None],
        sampled: Callable[[MemorySample, int], object],
        lost: Callable[[LocalLLMError], object],
    ) -> None:
        self._model = model
        self._sampled = sampled
        self._lost = lost
        self._wake = threading.Event()
        self._wanted = True
        self._closed = False

    def start(self, crashed: Callable[[BaseException], object]) -> None:
        """Begin; a mistake of ours goes to `crashed`."""
        background.start(self._work, "sample memory", crashed)

    def want(self, wanted: bool) -> None:
        """Sample every second, or not until this is called again."""
        self._wanted = wanted
        if wanted:
            self._wake.set()

    def now(self) -> None:
        """Take a sample without waiting for the second to pass."""
        self._wake.set()

    def close(self) -> None:
        """End; a sample that is being taken is not told any more."""
        self._closed = True
        self._wake.set()

    def _work(self) -> None:
        while not self._closed:
            self._sample()
            self._wake.wait(PERIOD_S if self._wanted else None)
            self._wake.clear()

    def _sample(self) -> None:
        model = self._model()
        if model is None:
            return
        try:
            memory, used = model.memory(), model.context_used()
        except LocalLLMError as error:
            if not self._closed and model is self._model():
                self._lost(error)
            return
        if not self._closed:
            self._sampled(memory, used)
