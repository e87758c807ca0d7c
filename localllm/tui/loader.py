"""Gets the model behind the app into memory, in a thread of its own, and holds it.

Knows nothing of widgets or conversations, and of the model only that it answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from localllm.errors import Cancelled, LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.tui import background


@dataclass(frozen=True)
class Wanted:
    """A model to load: which file, and how."""

    path: Path
    options: Options = field(default_factory=Options)


def options_of_another(options: Options, path: Path) -> Options:
    """The options with which another model was loaded, for the one at `path`.

    A chat template that was given goes to a file that has none: in any other it would stand in place of the right one.

    Raises:
        ModelNotFound, BadModelFile: there is no such file, or it is no GGUF.
    """
    if not options.chat_template:
        return options
    from localllm.gguf_file import read_header

    if read_header(path).metadata.get("tokenizer.chat_template"):
        return replace(options, chat_template="")
    return options


OpenModel = Callable[[Wanted, Callable[[float], None]], Responder]
"""Loads a model; calls what it is given with the fraction that is loaded. Blocks, and raises errors of the tree."""

STEP = 0.01
"""Progress is told at most a hundred times a load."""


class Loader:
    """One model: `loading`, then `ready` or `failed`. `changed` is called from any thread after each change."""

    def __init__(
        self,
        open_model: OpenModel,
        wanted: Wanted,
        changed: Callable[[], object],
        crashed: Callable[[BaseException], object],
    ) -> None:
        self.wanted = wanted
        self.took_s = 0.0
        """How long the last load took that worked; 0 before there was one."""
        self._worked: Wanted | None = None
        self.state: Literal["loading", "ready", "failed"] = "loading"
        self.fraction = 0.0
        self.error: LocalLLMError | None = None
        self.model: Responder | None = None
        self._open_model = open_model
        self._changed = changed
        self._crashed = crashed
        self._lock = threading.Condition()
        self._load = 0

    def start(self, wanted: Wanted | None = None, *, first: Callable[[], object] | None = None) -> None:
        """Load what is wanted now, or what was wanted before; what was there is closed first.

        `first` is done before, in the thread that loads: whoever waits for the model waits for that, too.
        """
        with self._lock:
            self.wanted = wanted or self.wanted
            self._load += 1
            load, old, self.model = self._load, self.model, None
            self.state, self.fraction, self.error = "loading", 0.0, None
        self._changed()
        background.start(lambda: self._run(load, self.wanted, old, first), "load the model", self._crashed)

    def wait(self, given_up: threading.Event) -> Responder | None:
        """The model, once it is loaded; None if the caller set `given_up` first. Blocks.

        Raises:
            LocalLLMError: it cannot be loaded, for this reason.
        """
        with self._lock:
            while self.state == "loading" and not given_up.is_set():
                self._lock.wait(0.05)
            if self.state == "failed" and self.error is not None:
                raise self.error
            return self.model

    def fail(self, error: LocalLLMError) -> bool:
        """The model that was loaded is of no more use. Whether there was one: `changed` is called then."""
        with self._lock:
            if self.state != "ready":
                return False
            self.state, self.error = "failed", error
            dead, self.model = self.model, None
        if dead is not None:
            background.start(dead.close, "close the model", self._crashed)
        self._changed()
        return True

    def unload(self) -> None:
        """Free the model until `start` loads it again. Blocks until its memory is free."""
        self.state, self.error = "failed", None
        self.close()
        self._changed()

    def open_beside(self, wanted: Wanted, progress: Callable[[float], None]) -> Responder:
        """Another model, which is the caller's to close. Blocks, and raises errors of the tree."""
        return self._open_model(wanted, progress)

    def close(self) -> None:
        """Free the model; a load that is under way is cancelled at its next step."""
        with self._lock:
            self._load += 1
            model, self.model = self.model, None
        if model is not None:
            model.close()

    def _run(self, load: int, wanted: Wanted, old: Responder | None, first: Callable[[], object] | None = None) -> None:
        if old is not None:
            old.close()
        if first is not None:
            first()
        if load != self._load:
            return
        began = time.monotonic()
        try:
            model = self._open_model(wanted, lambda fraction: self._advance(load, fraction))
        except LocalLLMError as error:
            self._settle(load, None, error)
        else:
            self.took_s = time.monotonic() - began
            if not self._settle(load, model, None):
                model.close()

    def _advance(self, load: int, fraction: float) -> None:
        if load != self._load:
            raise Cancelled("The load was given up.")
        if fraction - self.fraction >= STEP or fraction >= 1:
            self.fraction = fraction
            self._changed()

    def _settle(self, load: int, model: Responder | None, error: LocalLLMError | None) -> bool:
        with self._lock:
            if load != self._load:
                return False
            self.model, self.error = model, error
            # What does not load is not tried again, if something else did before.
            self._worked = self._worked if model is None else self.wanted
            self.wanted = self._worked or self.wanted
            self.state = "failed" if model is None else "ready"
            self._lock.notify_all()
        self._changed()
        if model is not None:
            model.when_lost(lambda death: self._lost(model, death))
        return True

    def _lost(self, model: Responder, error: LocalLLMError) -> None:
        # One that is loaded by now, in its place, is none the worse for it.
        if model is self.model:
            self.fail(error)
