"""The engines of a comparison: that of the open chat, which is lent, and at most one beside it.

Where both do not fit at once, the chat's model is truly unloaded, and loaded again in the end. Knows nothing of
widgets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from localllm.errors import BadTemplate, Cancelled, EngineDied, LocalLLMError
from localllm.gguf_file import read_header
from localllm.measure.comparing import Contender, no_template
from localllm.runtime.apart import plan_apart
from localllm.runtime.plan import check_fits
from localllm.runtime.responder import Responder
from localllm.runtime.types import Plan
from localllm.tui import background
from localllm.tui.amounts import size
from localllm.tui.loader import Loader, Wanted, options_of_another


@dataclass(frozen=True)
class Seat:
    """How a contender comes into memory: it is `loaded` already; it `joins` the chat's model, `replaces` it, or is
    `alone` where that is not loaded; or it `fails`.

    `plan` is what a load takes; `error` says why it cannot be loaded.
    """

    name: str
    how: Literal["loaded", "joins", "replaces", "alone", "fails"]
    plan: Plan | None = None
    error: LocalLLMError | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return str(self.error)
        if self.plan is None:
            return f"{self.name} is loaded."
        free = sum(device.free for device in self.plan.devices)
        takes = f"{self.name} takes {size(self.plan.total)}, {size(free)} are free"
        if self.how == "alone":
            return f"{takes}: it fits."
        if self.how == "joins":
            return f"{takes}: it fits beside the model of the chat."
        return f"{takes}: both do not fit. The model of the chat is unloaded for it, and loaded again when you leave."


class Beside:
    """Opens what is compared. `open` blocks and is for a thread; `close` has the second engine freed."""

    def __init__(self, loader: Loader, crashed: Callable[[BaseException], object]) -> None:
        self._loader = loader
        self._crashed = crashed
        self._second: tuple[Contender, Responder] | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._planning = threading.Event()
        self._unloaded = False
        self._n_ctx = 0

    def own(self) -> Contender:
        """The model of the chat."""
        wanted, model = self._loader.wanted, self._loader.model
        name = f"{model.info.name} {model.info.quantization}".strip() if model is not None else wanted.path.stem
        return Contender(name, wanted.path, wanted.options)

    @property
    def own_refused(self) -> BadTemplate | None:
        """Why nothing can be asked of the model of the chat; None as long as it may answer."""
        model = self._loader.model
        return None if model is None or model.info.has_chat_template else no_template(model.info.title)

    def other(self, name: str, path: Path) -> Contender:
        """Another model, loaded as the chat's is: with its context, if it was trained with as much.

        Raises:
            BadModelFile: it is no GGUF.
            BadTemplate: nobody can chat with it.
        """
        options, model = self._loader.wanted.options, self._loader.model
        self._n_ctx = model.plan.n_ctx if model is not None else self._n_ctx or options.n_ctx
        header = read_header(path)
        trained = header.context_length or self._n_ctx
        # What is compared is not worth keeping on disk.
        contender = Contender.called(
            name, path, replace(options_of_another(options, path), n_ctx=min(self._n_ctx, trained), kv_disk=0)
        )
        contender.check_template(header)
        return contender

    def find(self, name: str, path: Path | None, told: Callable[[Contender | LocalLLMError], object]) -> None:
        """Tell of another model as a contender, or why it is none, from a thread. Without a `path` the name says it."""

        def look() -> None:
            from localllm import library

            found: Contender | LocalLLMError
            try:
                found = self.other(name, path or library.resolve(name))
            except LocalLLMError as error:
                found = error
            told(found)

        background.start(look, "find a model to compare", self._crashed)

    def plan(self, contenders: Sequence[Contender], told: Callable[[list[Seat]], object]) -> None:
        """Tell how each would come into memory as things are now, from a thread. What was asked before is given up."""
        self.give_up_planning()
        given_up = self._planning = threading.Event()

        def look() -> None:
            try:
                seats = [self._seat(contender, given_up) for contender in contenders]
            except Cancelled:
                return
            if not given_up.is_set():
                told(seats)

        background.start(look, "plan a comparison", self._crashed)

    def give_up_planning(self) -> None:
        """Nobody wants to know any more."""
        self._planning.set()

    def open(self, contender: Contender, progress: Callable[[float], None], stopped: threading.Event) -> Responder:
        """The model, loaded; see `Engines`."""
        own = self._own(stopped)
        if own is not None and self._is_own(contender):
            return own
        known = self._loaded_already(contender)
        if known is not None:
            return known
        self._free_second()
        seat = self._seat(contender, stopped)
        if seat.error is not None:
            raise seat.error
        if seat.how == "replaces":
            self._unloaded = True
            self._loader.unload()

        def heard(fraction: float) -> None:
            if stopped.is_set():
                raise Cancelled("The load was given up.")
            progress(fraction)

        wanted = Wanted(contender.path, contender.options)
        model = background.wait_for(lambda: self._loader.open_beside(wanted, heard), stopped, lambda late: late.close())
        with self._lock:
            self._second = contender, model
        if self._closed.is_set():
            self._free_second()
        return model

    def release(self, model: Responder) -> None:
        """It stays: the next prompt may follow."""

    def close(self) -> None:
        """Have the second engine freed, then the chat's model loaded again if it had to go. Returns at once.

        From then on the model of the chat is one that is loading: a message may be sent, and waits for it.
        """
        self._closed.set()
        self.give_up_planning()
        if self._unloaded:
            self._loader.start(first=self._free_second)
        else:
            background.start(self._free_second, "free the second model", self._crashed)

    def _own(self, stopped: threading.Event) -> Responder | None:
        """The model of the chat once it is loaded; None where it is not."""
        try:
            return self._loader.wait(stopped)
        except LocalLLMError:
            return None

    def _is_own(self, contender: Contender) -> bool:
        return contender.path == self._loader.wanted.path

    def _loaded_already(self, contender: Contender) -> Responder | None:
        with self._lock:
            second = self._second
        if second is None or second[0] != contender:
            return None
        try:
            second[1].memory()
        except EngineDied:
            return None
        return second[1]

    def _free_second(self) -> None:
        with self._lock:
            second, self._second = self._second, None
        if second is not None:
            second[1].close()

    def _seat(self, contender: Contender, given_up: threading.Event) -> Seat:
        own = self._own(given_up)
        if own is not None and self._is_own(contender):
            return Seat(contender.name, "loaded")
        if self._loaded_already(contender) is not None:
            return Seat(contender.name, "loaded")
        try:
            plan = background.wait_for(lambda: plan_apart(contender.path, contender.options), given_up, lambda _: None)
            if own is None:
                check_fits(plan)
                return Seat(contender.name, "alone", plan)
            if plan.fits_beside(own.plan):
                return Seat(contender.name, "joins", plan)
            if not plan.fits_instead_of(own.plan):
                check_fits(plan)
            return Seat(contender.name, "replaces", plan)
        except Cancelled:
            raise
        except LocalLLMError as error:
            return Seat(contender.name, "fails", error=error)
