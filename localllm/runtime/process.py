"""A model in a child process, with the interface of one in this process.

A native abort or the kernel's out-of-memory killer then takes the engine and not the program with the conversation;
closing it truly frees the memory; and the decode loop shares no interpreter lock with an interface. A model that uses
workers always runs like this, for llama.cpp ends the process whose worker goes away.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from localllm.errors import BadWorker, Cancelled, EngineDied
from localllm.native import rpc
from localllm.runtime.aio import AsyncAnswers, in_thread
from localllm.runtime.engine_process import EngineProcess, Events
from localllm.runtime.model import Model
from localllm.runtime.plan import make_plan
from localllm.runtime.protocol import (
    Cancel,
    Failed,
    Finished,
    Generate,
    Load,
    Loaded,
    Loading,
    MakePlan,
    Piece,
    Planned,
    Prefill,
    as_error,
)
from localllm.runtime.session import Chat
from localllm.runtime.types import (
    MemorySample,
    Message,
    ModelInfo,
    Options,
    Plan,
    Progress,
    Sampling,
    Stats,
    TokenLogprob,
)


def load(
    path: Path, options: Options | None = None, *, progress: Callable[[float], None] | None = None
) -> Model | ModelProcess:
    """Load a model where it is safe: in this process, or in a child process if it uses workers. See `Model.load`."""
    options = options or Options()
    return (ModelProcess if options.workers else Model).load(path, options, progress=progress)


def plan(path: Path, options: Options | None = None) -> Plan:
    """`make_plan` where it is safe: in this process, or in a child process if there are workers."""
    options = options or Options()
    if not options.workers:
        return make_plan(path, options)
    engine = EngineProcess()
    try:
        event = engine.begin(0, MakePlan(str(Path(path).absolute()), options)).get()
        if isinstance(event, Planned):
            return event.plan
        raise as_error(event) if isinstance(event, Failed) else _death(engine, options)
    finally:
        engine.close()


class ModelProcess(AsyncAnswers):
    """A loaded model in a child process. Use it as a context manager, or `close()` it.

    `notes` are sentences on what was chosen or is unusual; one is added when a worker went away.
    """

    info: ModelInfo
    notes: tuple[str, ...]

    def __init__(self) -> None:
        self._engine = EngineProcess()
        self._options = Options()
        self._requests = 0
        self._lock = threading.Lock()
        self._recovering = threading.Lock()  # held while the engine is replaced

    @classmethod
    def load(
        cls,
        path: Path,
        options: Options | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> ModelProcess:
        """Start a process and load the GGUF at `path` in it. Blocks until it is loaded.

        `progress` is called with 0…1; when `cancelled` returns True the load is given up.

        Raises:
            ModelNotFound, BadModelFile, UnsupportedModel, DoesNotFit: as `Model.load`.
            BadWorker, MissingPackage: a worker cannot be used.
            Cancelled: `cancelled` returned True.
            EngineDied: the process ended while loading.
        """
        model = cls()
        model._options = options or Options()
        try:
            loaded = _load(model._engine, path, model._options, progress, cancelled)
            model.info, model.notes = loaded.info, loaded.notes
        except BaseException:
            model.close()
            raise
        return model

    @classmethod
    async def aload(
        cls, path: Path, options: Options | None = None, *, progress: Callable[[float], None] | None = None
    ) -> ModelProcess:
        """`load` for `await`; `progress` is called in another thread. Cancelling the task gives the load up."""
        stopped = threading.Event()
        return await in_thread(
            lambda: cls.load(path, options, progress=progress, cancelled=stopped.is_set), stopped.set, cls.close
        )

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._engine.pid

    def chat(self, system: str | None = None, *, sampling: Sampling | None = None, max_tokens: int = 0) -> Chat:
        """A conversation with this model; `system` is the system prompt, `max_tokens` 0 is no limit."""
        return Chat(self, system=system, sampling=sampling, max_tokens=max_tokens)

    def reply(
        self, messages: Sequence[Message], *, sampling: Sampling | None = None, max_tokens: int = 0
    ) -> RemoteReply:
        """Answer a conversation; see `Responder.reply`."""
        return self._request(tuple(messages), None, sampling, max_tokens)

    def complete(self, prompt: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> RemoteReply:
        """Continue `prompt` as it stands, without a chat template."""
        if not prompt:
            raise ValueError("the prompt is empty")
        return self._request((), prompt, sampling, max_tokens)

    def memory(self) -> MemorySample:
        """Memory of the engine's process now.

        Raises:
            EngineDied: the process ended, or gave no answer for some seconds.
        """
        with self._recovering:
            engine = self._engine
        return engine.ask_memory().sample

    def context_used(self) -> int:
        """Tokens in the KV cache when the engine last told."""
        return self._engine.context_used

    def close(self) -> None:
        """Stop a running reply and end the process, by force if it does not listen."""
        self._engine.close()

    def _request(
        self, messages: tuple[Message, ...], prompt: str | None, sampling: Sampling | None, max_tokens: int
    ) -> RemoteReply:
        with self._lock:
            self._requests += 1
            request = self._requests
        return RemoteReply(self, Generate(request, messages, prompt, sampling or Sampling(), max_tokens))

    def _recovered(self, engine: EngineProcess) -> bool:
        """Whether there is another engine instead of `engine`, which ended: one without workers, if that was asked for.

        Raises:
            DoesNotFit: there is no room for it.
        """
        with self._recovering:
            if engine is not self._engine:
                return True
            if engine.closed or not (self._options.workers and self._options.retry_locally):
                return False
            death = _death(engine, self._options)
            alone, options = EngineProcess(), replace(self._options, workers=(), split=())
            try:
                loaded = _load(alone, self.info.path, options)
            except BaseException:
                alone.close()
                raise
            engine.close()
            self._engine, self._options, self.info = alone, options, loaded.info
            self.notes = (*self.notes, *loaded.notes, f"{death.message} The model was loaded again without workers.")
            return True


def _load(
    engine: EngineProcess,
    path: Path,
    options: Options,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Loaded:
    """Load the model in that process; see `ModelProcess.load`."""
    events = engine.begin(0, Load(str(Path(path).absolute()), options))
    asked = False
    while True:
        if not asked and cancelled is not None and cancelled():
            asked = True
            engine.send(Cancel(0))
        try:
            event = events.get(timeout=0.1)
        except queue.Empty:
            continue
        if isinstance(event, Loading) and progress is not None:
            progress(event.fraction)
        elif isinstance(event, Loaded):
            if asked:  # too late for the engine, which was done
                raise Cancelled(f"Loading {path.name} was stopped.")
            return event
        elif isinstance(event, Failed):
            raise as_error(event)
        elif event is None:
            raise _death(engine, options)


def _death(engine: EngineProcess, options: Options) -> EngineDied:
    """Why the engine gives no answer; a worker that is gone is named."""
    gone = [] if engine.closed else [worker for worker in options.workers if not _answers(worker)]
    if not gone:
        return engine.death()
    return EngineDied(
        f"The worker at {' and the one at '.join(gone)} went away, and llama.cpp ended the engine that used it.",
        hint="The conversation is safe. Load the model again without the worker; --retry-locally does so by itself.",
    )


def _answers(worker: str) -> bool:
    try:
        rpc.ask(worker, seconds=1)
    except BadWorker:
        return False
    return True


class RemoteReply:
    """A reply made in the child process; see `Reply`. The request is sent when the iteration begins.

    If a worker goes away and the model was to be loaded again without it, the reply goes on there from the text that it
    has, and `stats` are those of the rest. Not under a grammar or schema: what is left of it is not known.
    """

    def __init__(self, owner: ModelProcess, command: Generate) -> None:
        self.sampling = command.sampling
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self._owner = owner
        self._command = command
        self._engine: EngineProcess | None = None
        self._events: Events | None = None
        self._pieces = self._continued = 0  # since the reply began, or went on elsewhere; characters before that
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
            event = events.get()
            if isinstance(event, Piece):
                self.text += event.text
                self.logprobs += event.logprobs
                if event.text:
                    self._pieces += 1
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

    def _begin(self) -> Events:
        try:
            self._engine = self._owner._engine
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
        constrained = self.text and self._command.sampling.constrained
        if engine is None or self._cancelled or constrained:
            return False
        try:
            if not self._owner._recovered(engine):
                return False
        except BaseException:
            self._end()
            raise
        self._command = _rest(self._command, self.text[self._continued :], self._pieces)
        self._continued, self._pieces = len(self.text), 0
        return True

    def _death(self) -> EngineDied:
        engine = self._engine
        return _death(engine, self._owner._options) if engine is not None else EngineDied("There is no engine.")

    def _end(self) -> None:
        self._ended = True
        if self._engine is not None:
            self._engine.done(self._command.request)

    @property
    def stats(self) -> Stats | None:
        """What it cost; None until the iteration ended."""
        return self._stats

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
