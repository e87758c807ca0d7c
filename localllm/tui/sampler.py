"""Asks once a second how the memory stands, the model's and the machine's, in a thread of its own.

Knows nothing of widgets. While nobody wants to know it only watches the machine, now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from localllm.errors import LocalLLMError
from localllm.runtime.responder import Responder
from localllm.runtime.types import MemorySample
from localllm.tui import background
from localllm.tui.vitals import Machine, machine

PERIOD_S = 1.0
WATCH_S = 5.0
"""How often the machine is looked at while nobody wants samples."""


class Sampler:
    """Calls `sampled` with each sample of the model, `watched` with each of the machine, and `lost` when the model does
    not answer any more; all from its thread."""

    def __init__(
        self,
        model: Callable[[], Responder | None],
        sampled: Callable[[MemorySample, int, Machine], object],
        watched: Callable[[Machine], object],
        lost: Callable[[LocalLLMError], object],
    ) -> None:
        self._model = model
        self._sampled = sampled
        self._watched = watched
        self._lost = lost
        self._wake = threading.Event()
        self._wanted = True
        self._asked = True
        self._closed = False

    def start(self, crashed: Callable[[BaseException], object]) -> None:
        """Begin; a mistake of ours goes to `crashed`."""
        background.start(self._work, "sample memory", crashed)

    def want(self, wanted: bool) -> None:
        """Sample every second, or not until this is called again."""
        self._wanted = wanted
        if wanted:
            self.now()

    def now(self) -> None:
        """Take a sample without waiting for the second to pass."""
        self._asked = True
        self._wake.set()

    def close(self) -> None:
        """End; a sample that is being taken is not told any more."""
        self._closed = True
        self._wake.set()

    def _work(self) -> None:
        while not self._closed:
            now = machine()
            self._watched(now)
            if self._wanted or self._asked:
                self._asked = False
                self._sample(now)
            self._wake.wait(PERIOD_S if self._wanted else WATCH_S)
            self._wake.clear()

    def _sample(self, now: Machine) -> None:
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
            self._sampled(memory, used, now)
