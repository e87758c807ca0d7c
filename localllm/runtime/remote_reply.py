"""A reply that is made in the child process of a model, and goes on in another one if it was asked to."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from localllm.errors import BadWorker, EngineDied
from localllm.native import rpc
from localllm.runtime.engine_process import EngineProcess, Events
from localllm.runtime.protocol import Cancel, Event, Failed, Finished, Generate, Piece, Prefill, as_error
from localllm.runtime.types import Message, Progress, Stats, TokenLogprob

CANCEL_SECONDS = 10.0
"""How long a reply that was cancelled waits for an engine whose worker may hang, before it ends the engine."""


class RemoteReply:
    """A reply made in the child process; see `Reply`. The request is sent when the iteration begins.

    If a worker goes away and the model was to be loaded again without it, the reply goes on there from the text that it
    has, and `stats` are those of the rest. Not under a grammar or schema: what is left of it is not known.
    """

    def __init__(
        self,
        command: Generate,
        engine: Callable[[], tuple[EngineProcess, Sequence[str]]],
        recovered: Callable[[EngineProcess], bool],
    ) -> None:
        """`engine` tells who answers now and its workers, `recovered` whether there is another after that one's end."""
        self.sampling = command.sampling
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self._command, self._current, self._recovered = command, engine, recovered
        self._engine: EngineProcess | None = None
        self._workers: Sequence[str] = ()
        self._events: Events | None = None
        self._pieces = self._begun_at = 0  # what was said, and had been when it was last asked for
        self._continued = 0  # characters at that time
        self._stats: Stats | None = None
        self._progress: Progress | None = None
        self._cancelled = self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._ended:
            raise StopIteration
        events = self._events or self._begin()
        while True:
            event = self._next_event(events)
            if isinstance(event, Piece):
                self.text += event.text
                self.logprobs += event.logprobs
                self._pieces += event.count
                if event.text:
                    return event.text
                continue
            if isinstance(event, Prefill):
                self._progress = event.progress
                continue
            if event is None and self._goes_on():
                events = self._begin()
                continue
            self._end()
            if isinstance(event, Finished):
                self._stats, self.sampling = event.stats, event.sampling
                raise StopIteration
            raise as_error(event) if isinstance(event, Failed) else self._death()

    def _next_event(self, events: Events) -> Event | None:
        """What comes next. A worker that hangs lets its engine hang: that one is ended some time after a cancel."""
        engine, deadline = self._engine, float("inf")
        while engine is not None and self._workers:
            with contextlib.suppress(queue.Empty):
                return events.get(timeout=0.2)
            if self._cancelled:
                deadline = min(deadline, time.monotonic() + CANCEL_SECONDS)
            if time.monotonic() > deadline:
                engine.kill()
        return events.get()

    def _begin(self) -> Events:
        try:
            self._engine, self._workers = self._current()
            self._events = self._engine.begin(self._command.request, self._command)
            if self._cancelled:
                self._engine.send(Cancel(self._command.request))
        except EngineDied:
            self._end()
            raise
        return self._events

    def _goes_on(self) -> bool:
        """Whether the rest can be asked for from another engine; `_command` then asks for it."""
        engine = self._engine
        constrained = self.text and (self._command.sampling.constrained or self._command.gap is not None)
        if engine is None or self._cancelled or constrained:
            return False
        try:
            if not self._recovered(engine):
                return False
        except BaseException:
            self._end()
            raise
        self._command = _rest(self._command, self.text[self._continued :], self._pieces - self._begun_at)
        self._continued, self._begun_at = len(self.text), self._pieces
        return True

    def _death(self) -> EngineDied:
        return why_ended(self._engine, self._workers) if self._engine is not None else EngineDied("It was not asked.")

    def _end(self) -> None:
        self._ended = True
        if self._engine is not None:
            self._engine.done(self._command.request)

    @property
    def stats(self) -> Stats | None:
        """What it cost; None until the iteration ended."""
        return self._stats

    @property
    def pieces(self) -> int:
        """How many pieces of about a token each were said."""
        return self._pieces

    @property
    def progress(self) -> Progress | None:
        """How far the prompt is evaluated; None before that begins."""
        return self._progress

    def cancel(self) -> None:
        """Stop as soon as possible; safe from any thread."""
        self._cancelled = True
        if self._events is not None and not self._ended:
            with contextlib.suppress(EngineDied):
                if self._engine is not None:
                    self._engine.send(Cancel(self._command.request))

    def close(self) -> None:
        """Cancel, and take what is still on its way."""
        if self._events is None:
            self._end()
        elif not self._ended:
            self.cancel()
            for _ in self:
                pass

    def __del__(self) -> None:
        # Nobody will read the rest: the engine must not go on for nobody.
        if self._events is not None and not self._ended:
            self.cancel()
            self._end()


def _rest(command: Generate, text: str, pieces: int) -> Generate:
    """The command that makes what is left of a reply of which `text` was made, in `pieces` of about one token each."""
    left = max(1, command.max_tokens - pieces) if command.max_tokens else 0
    if not text:
        return command
    if command.prompt is not None:
        return replace(command, prompt=command.prompt + text, max_tokens=left)
    *before, last = command.messages
    if last.role == "assistant":
        return replace(command, messages=(*before, Message("assistant", last.content + text)), max_tokens=left)
    return replace(command, messages=(*command.messages, Message("assistant", text)), max_tokens=left)


def why_ended(engine: EngineProcess, workers: Sequence[str]) -> EngineDied:
    """Why the engine gives no answer; of the `workers` it used those that are gone are named."""
    gone = [] if engine.closed else [worker for worker in workers if not _answers(worker)]
    if not gone:
        return engine.death()
    return EngineDied(
        f"The worker at {' and the one at '.join(gone)} went away, and llama.cpp ended the engine that used it.",
        hint="The conversation is safe. Load the model again without the worker; --retry-locally (retry_locally in "
        "Python) does so by itself.",
    )


def _answers(worker: str) -> bool:
    try:
        rpc.ask(worker, seconds=1)
    except BadWorker:
        return False
    return True
