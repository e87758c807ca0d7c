"""A model in a child process, with the interface of one in this process.

A native abort or the kernel's out-of-memory killer then takes the engine and not the program with the conversation;
closing it truly frees the memory; and the decode loop shares no interpreter lock with an interface. A model that uses
workers always runs like this, for llama.cpp ends the process whose worker goes away.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.errors import Cancelled, EngineDied
from localllm.runtime.any_model import AnyModel
from localllm.runtime.engine_process import EngineProcess
from localllm.runtime.options import Options
from localllm.runtime.protocol import (
    Cancel,
    Compute,
    Computed,
    Event,
    Failed,
    Foresee,
    Foreseen,
    Generate,
    Load,
    Loaded,
    Loading,
    MakePlan,
    Planned,
    as_array,
    as_error,
)
from localllm.runtime.remote_reply import RemoteReply, why_ended
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Forecast, MemorySample, Message, ModelInfo, Plan, check_request

if TYPE_CHECKING:  # numpy takes time to import
    import numpy as np
    from numpy.typing import NDArray

    from localllm.runtime.reading import Pooling


class ModelProcess(AnyModel):
    """A loaded model in a child process. Use it as a context manager, or `close()` it.

    One that nobody holds any more is closed when Python collects its garbage.

    `plan` is what it took, `notes` are sentences on what was chosen or is unusual; one is added when a worker
    went away.
    """

    info: ModelInfo
    plan: Plan
    notes: tuple[str, ...]

    def __init__(self) -> None:
        self._own(EngineProcess())
        self._options = Options()
        self._gather_s = 0.0
        self._requests = 0
        self._lock = threading.Lock()
        self._recovering = threading.Lock()  # held while the engine is replaced
        self._told_of_loss: list[Callable[[EngineDied], object]] = []

    @classmethod
    def load(
        cls,
        path: Path,
        options: Options | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        gather_s: float = 0.0,
    ) -> ModelProcess:
        """Start a process and load the GGUF at `path` in it. Blocks until it is loaded.

        `progress` is called with 0…1; when `cancelled` returns True the load is given up. With `gather_s` the pieces
        of replies that come within so many seconds come as one, but for the first: to who draws the text now and then
        each by itself costs decoding some of its speed, where all cores compute.

        Raises:
            ModelNotFound, BadModelFile, UnsupportedModel, DoesNotFit: as `Model.load`.
            BadWorker, MissingPackage: a worker cannot be used.
            Cancelled: `cancelled` returned True.
            EngineDied: the process ended while loading.
        """
        model = cls()
        model._options, model._gather_s = options or Options(), gather_s
        try:
            loaded = _load(model._engine, path, model._options, progress, cancelled)
            model.info, model.plan, model.notes = loaded.info, loaded.plan, loaded.plan.notes
        except BaseException:
            model.close()
            raise
        return model

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._engine.pid

    def reply(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        max_tokens: int = 0,
        anew: bool = False,
    ) -> RemoteReply:
        """Answer a conversation; see `Responder.reply`."""
        said = tuple(messages)
        check_request(max_tokens, messages=said)
        return self._request(said, None, sampling, max_tokens, anew=anew)

    def complete(self, prompt: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> RemoteReply:
        """Continue `prompt` as it stands, without a chat template."""
        check_request(max_tokens, prompt=prompt)
        return self._request((), prompt, sampling, max_tokens)

    def fill(self, prefix: str, suffix: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> RemoteReply:
        """What stands between `prefix` and `suffix`; see `Model.fill`, but raises on the first iteration."""
        check_request(max_tokens)
        return self._request((), None, sampling, max_tokens, (prefix, suffix))

    def foresee(self, messages: Sequence[Message]) -> Forecast:
        """What an answer to `messages` would begin with; see `Model.foresee`."""
        said = tuple(messages)
        check_request(0, messages=said)
        event = self._asked(Foresee(self._next_request(), said))
        assert isinstance(event, Foreseen)
        return event.forecast

    def what_if(self, options: Options) -> Plan:
        """The plan for this model with other options; see `Model.what_if`. It is made in the engine's process."""
        event = self._asked(MakePlan(str(self.info.path.absolute()), options, self._next_request()))
        assert isinstance(event, Planned)
        return event.plan

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` as a whole prompt, special tokens read."""
        return list(self._compute("tokenize", text=text).value)  # type: ignore[arg-type]

    def embed(
        self, texts: Sequence[str], *, normalize: bool = True, truncate: bool = False, pooling: Pooling | None = None
    ) -> NDArray[np.float32]:
        """Vectors for texts: float32 [n, d]; see `Model.embed`."""
        given = texts if isinstance(texts, str) else list(texts)
        return as_array(self._compute("embed", texts=given, normalize=normalize, truncate=truncate, pooling=pooling))

    def rerank(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
        """How well each document answers `query`: float32 [n]; see `Model.rerank`."""
        given = documents if isinstance(documents, str) else list(documents)
        return as_array(self._compute("rerank", query=query, documents=given))

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The logits of what follows each of `tokens`: float32 [n, vocabulary]; see `Model.logits`."""
        return as_array(self._compute("logits", tokens=list(tokens)))

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

    def when_lost(self, tell: Callable[[EngineDied], object]) -> None:
        """See `Responder.when_lost`; an engine that would be replaced by one without workers is none that is lost."""
        with self._recovering:
            self._told_of_loss.append(tell)
            engine, options = self._engine, self._options
        _when_lost(engine, options, tell)

    def close(self) -> None:
        """Stop a running reply and end the process, by force if it does not listen."""
        self._engine.close()

    def _own(self, engine: EngineProcess) -> None:
        self._engine = engine
        # By a program that did not close it. At its exit the engine sees the end of its input.
        weakref.finalize(self, engine.close).atexit = False

    def _request(
        self,
        messages: tuple[Message, ...],
        prompt: str | None,
        sampling: Sampling | None,
        max_tokens: int,
        gap: tuple[str, str] | None = None,
        *,
        anew: bool = False,
    ) -> RemoteReply:
        request, sampling = self._next_request(), sampling or Sampling()
        command = Generate(request, messages, prompt, sampling, max_tokens, gap, anew, self._gather_s)
        return RemoteReply(command, lambda: (self._engine, self._options.workers), self._recovered)

    def _next_request(self) -> int:
        with self._lock:
            self._requests += 1
            return self._requests

    def _compute(self, method: str, **arguments: object) -> Computed:
        """Let the engine read something, and wait for what it gives."""
        event = self._asked(Compute(self._next_request(), method, arguments))
        assert isinstance(event, Computed)
        return event

    def _asked(self, command: Compute | Foresee | MakePlan) -> Event:
        """Send a command that is answered once, and wait for its answer."""
        with self._recovering:
            engine = self._engine
        events = engine.begin(command.request, command)
        try:
            event = events.get()
        finally:
            engine.done(command.request)
        if event is None or isinstance(event, Failed):
            raise as_error(event) if event is not None else why_ended(engine, self._options.workers)
        return event

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
            death = why_ended(engine, self._options.workers)
            alone, options = EngineProcess(), replace(self._options, workers=(), split=())
            try:
                loaded = _load(alone, self.info.path, options)
            except BaseException:
                alone.close()
                raise
            engine.close()
            self._own(alone)
            self._options, self.info, self.plan = options, loaded.info, loaded.plan
            for tell in self._told_of_loss:
                _when_lost(alone, options, tell)
            self.notes = (
                *self.notes,
                *loaded.plan.notes,
                f"{death.message} The model was loaded again without workers.",
            )
            return True


def _when_lost(engine: EngineProcess, options: Options, tell: Callable[[EngineDied], object]) -> None:
    if not (options.workers and options.retry_locally):
        engine.when_ended(lambda: None if engine.closed else tell(why_ended(engine, options.workers)))


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
            raise why_ended(engine, options.workers)
