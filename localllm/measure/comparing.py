"""One prompt to several models, one after the other: what each says, how fast, and in how much memory.

Never at the same time: models that share the cores would measure each other. Who loads and frees the models is given;
knows no names of models and no screen.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from localllm import paths
from localllm.errors import BadTemplate, LocalLLMError
from localllm.gguf_file import Header
from localllm.runtime.options import Options
from localllm.runtime.responder import Reply, Responder
from localllm.runtime.sampling import Sampling, resolve
from localllm.runtime.thinking import Parted, parted
from localllm.runtime.types import MemorySample, Message, ModelInfo, Plan, Stats

MAX_TOKENS = 512
"""Where nothing else is said, an answer that is compared ends here: a small model may not end by itself."""


@dataclass(frozen=True)
class Contender:
    """A model that is compared, under the name that the person knows it by."""

    name: str
    path: Path
    options: Options = field(default_factory=Options)

    @classmethod
    def called(cls, name: str, path: Path, options: Options) -> Contender:
        """The model at `path`, which the person called `name`: of a path the last part is shown."""
        return cls(Path(name).name if paths.exists(Path(name)) else name, path, options)

    def check_template(self, header: Header) -> None:
        """Refuse a model that nobody can chat with before it is loaded; `header` is that of its file.

        Raises:
            BadTemplate: it has no chat template, and none is given.
        """
        if not self.options.chat_template and not header.get("tokenizer.chat_template"):
            raise no_template(self.name)


def no_template(name: str) -> BadTemplate:
    """That nobody can chat with the model of this name."""
    return BadTemplate(
        f"{name} has no chat template: it cannot answer in a chat.",
        hint="Choose another model, or start again with the template that this one was trained with: "
        "--chat-template FILE.",
    )


@dataclass(frozen=True)
class Request:
    """What all are asked, with the same `sampling`; `max_tokens` 0 is no limit."""

    prompt: str
    sampling: Sampling
    system: str = ""
    max_tokens: int = MAX_TOKENS

    @property
    def messages(self) -> list[Message]:
        """The conversation that is answered."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, Message("user", self.prompt)]


@dataclass(frozen=True)
class Answer:
    """What one model said, its thought included, and what that took. What was not reached is None; `error` says why it
    ended early.

    `plan` is what the load took in bytes, `memory` how it stood at the end of the answer, `sampling` how tokens were
    picked in the end.
    """

    contender: Contender
    text: str = ""
    info: ModelInfo | None = None
    plan: Plan | None = None
    stats: Stats | None = None
    memory: MemorySample | None = None
    sampling: Sampling | None = None
    error: LocalLLMError | None = None

    @property
    def parted(self) -> Parted:
        """What the model thought, and its answer proper."""
        return parted(self.text, opened=self.info.opens_thought if self.info is not None else "")


@dataclass(frozen=True)
class Loading:
    """So much of the model is loaded, from 0 to 1."""

    fraction: float


@dataclass(frozen=True)
class Reading:
    """The model is there, and reads the prompt."""

    info: ModelInfo
    plan: Plan


@dataclass(frozen=True)
class Said:
    """The next words of the answer; with them `pieces` of about a token each are there, `at` this monotonic time."""

    text: str
    pieces: int
    at: float


Step = Loading | Reading | Said | Answer
"""What happens to a contender, in this order; the answer is the last."""


class Engines(Protocol):
    """Gets the models into memory, one at a time, and knows which of them to keep."""

    def open(self, contender: Contender, progress: Callable[[float], None], stopped: threading.Event) -> Responder:
        """The model, loaded. Blocks; gives up soon after `stopped` is set.

        Raises:
            LocalLLMError: it cannot be loaded; `Cancelled` if it was stopped.
        """

    def release(self, model: Responder) -> None:
        """It has answered."""


class Comparison:
    """One run over some contenders. `run` blocks; `stop` may be called from any thread, at any stage."""

    def __init__(self, contenders: Sequence[Contender], request: Request, engines: Engines) -> None:
        # A seed is drawn here where none was given: the same for all.
        self.request = replace(request, sampling=resolve(request.sampling, request.sampling))
        self._contenders = contenders
        self._engines = engines
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._reply: Reply | None = None

    @property
    def stopped(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """End the answer that is made, and begin no other."""
        with self._lock:
            self._stopped.set()
            if self._reply is not None:
                self._reply.cancel()

    def run(self, hear: Callable[[int, Step], object]) -> list[Answer]:
        """The answers of all, as far as they came. `hear` is told what happens to which contender.

        A contender that fails has its error in its answer, and the others go on.
        """
        answers = []
        for number, contender in enumerate(self._contenders):
            if self.stopped:
                break
            answer = self._answer(contender, partial(hear, number))
            hear(number, answer)
            answers.append(answer)
        return answers

    def _answer(self, contender: Contender, hear: Callable[[Step], object]) -> Answer:
        answer = Answer(contender)

        def progress(fraction: float) -> None:
            hear(Loading(fraction))

        try:
            model = self._engines.open(contender, progress, self._stopped)
        except LocalLLMError as error:
            return replace(answer, error=error)
        try:
            answer = replace(answer, info=model.info, plan=model.plan)
            hear(Reading(model.info, model.plan))
            return self._listen(model, answer, hear)
        finally:
            self._engines.release(model)

    def _listen(self, model: Responder, answer: Answer, hear: Callable[[Step], object]) -> Answer:
        request = self.request
        reply = model.reply(request.messages, sampling=request.sampling, max_tokens=request.max_tokens, anew=True)
        with self._lock:
            self._reply = reply
            if self.stopped:
                reply.cancel()
        error = memory = None
        try:
            for piece in reply:
                hear(Said(piece, reply.pieces, time.monotonic()))
            memory = model.memory()
        except LocalLLMError as failed:
            error = failed
        finally:
            with self._lock:
                self._reply = None
        return replace(answer, text=reply.text, stats=reply.stats, memory=memory, sampling=reply.sampling, error=error)
