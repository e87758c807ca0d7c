"""The child process that runs one model for `ModelProcess`.

Commands come on stdin, events leave on stdout, both as lines of JSON. The main thread reads commands, so that a cancel
is seen at once; one thread loads the model, and each reply has one of its own, so that replies share batches as they do
in one process. When stdin ends, the parent is gone and the process ends.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from localllm import paths
from localllm.errors import Cancelled
from localllm.native import log
from localllm.runtime.model import Model
from localllm.runtime.outlet import Outlet
from localllm.runtime.plan import make_plan
from localllm.runtime.protocol import (
    READING,
    AskMemory,
    Cancel,
    Command,
    Compute,
    Event,
    Finished,
    Foresee,
    Foreseen,
    Generate,
    Load,
    Loaded,
    Loading,
    MakePlan,
    Memory,
    Piece,
    Planned,
    Prefill,
    computed,
    decode_command,
    failure,
)
from localllm.runtime.reply import LocalReply

Work = Load | MakePlan | Generate | Compute | Foresee
"""What takes long enough to be done beside the thread that reads commands."""


class Send(Protocol):
    """What sends an event to the parent."""

    def __call__(self, event: Event, gather_s: float = 0.0) -> None:
        """See `Outlet.send`."""


class Child:
    """The state of the process: the model, the replies that are being made, and the queue of commands for the model."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._work: queue.Queue[Work | None] = queue.Queue()
        self._model: Model | None = None
        self._replies: dict[int, LocalReply | None] = {}  # None while it is not begun yet
        self._lock = threading.Lock()  # for the replies, and for what is cancelled
        self._cancelled: set[int] = set()
        self._parent_gone = False

    def run(self, read_line: Callable[[], bytes]) -> None:
        """Serve until the input ends."""
        worker = threading.Thread(target=self._serve, name="model", daemon=True)
        worker.start()
        for line in iter(read_line, b""):
            self._accept(decode_command(line))
        self._parent_gone = True
        for request in (0, *list(self._replies)):
            self._cancel(request)
        self._work.put(None)
        worker.join(timeout=5)

    def _accept(self, command: Command) -> None:
        if isinstance(command, Generate):
            self._replies[command.request] = None
        if isinstance(command, Work):
            self._work.put(command)
        elif isinstance(command, Cancel):
            self._cancel(command.request)
        elif isinstance(command, AskMemory) and self._model is not None:
            self._send(Memory(self._model.memory(), self._model.context_used()))

    def _cancel(self, request: int) -> None:
        with self._lock:
            if request == 0 or request in self._replies:
                self._cancelled.add(request)
            reply = self._replies.get(request)
        if reply is not None:
            reply.cancel()

    def _serve(self) -> None:
        answering: list[threading.Thread] = []
        while (command := self._work.get()) is not None and not self._parent_gone:
            if not isinstance(command, Load):
                thread = threading.Thread(target=self._do, args=(command,), name=f"request {command.request}")
                answering = [*(other for other in answering if other.is_alive()), thread]
                thread.start()
            else:
                self._do(command)
        for thread in answering:
            thread.join()
        if self._model is not None:
            self._model.close()

    def _do(self, command: Work) -> None:
        try:
            if isinstance(command, Load):
                self._load(command)
            elif isinstance(command, MakePlan):
                self._send(Planned(make_plan(Path(command.path), command.options), command.request))
            elif isinstance(command, Foresee):
                self._send(Foreseen(command.request, self._loaded().foresee(command.messages)))
            elif isinstance(command, Compute):
                self._compute(command)
            else:
                self._generate(command)
        except Exception as error:  # whatever it was, the parent must hear of it
            self._send(failure(0 if isinstance(command, Load) else command.request, error))

    def _load(self, command: Load) -> None:
        last = -1.0

        def report(fraction: float) -> bool:
            nonlocal last
            if fraction - last >= 0.01 or fraction == 1:
                last = fraction
                self._send(Loading(fraction))
            return 0 not in self._cancelled

        self._model = Model(Path(command.path), command.options, report, in_child=True)
        if 0 in self._cancelled:
            raise Cancelled("Loading was stopped.")
        self._send(Loaded(self._model.info, self._model.plan))

    def _compute(self, command: Compute) -> None:
        if command.method not in READING:
            raise ValueError(f"a model has no {command.method!r} that only reads")
        value = getattr(self._loaded(), command.method)(**command.arguments)
        self._send(computed(command.request, value))

    def _loaded(self) -> Model:
        if self._model is None:
            raise RuntimeError("no model is loaded")
        return self._model

    def _generate(self, command: Generate) -> None:
        try:
            self._answer(command)
        finally:
            with self._lock:
                self._replies.pop(command.request, None)
                self._cancelled.discard(command.request)

    def _answer(self, command: Generate) -> None:
        model = self._loaded()
        options = {"sampling": command.sampling, "max_tokens": command.max_tokens}
        if command.gap is not None:
            reply = model.fill(*command.gap, **options)  # type: ignore[arg-type]
        elif command.prompt is None:
            reply = model.reply(command.messages, anew=command.anew, **options)  # type: ignore[arg-type]
        else:
            reply = model.complete(command.prompt, **options)  # type: ignore[arg-type]
        with self._lock:
            self._replies[command.request] = reply
        if command.request in self._cancelled:
            reply.cancel()
        reply.on_progress = lambda progress: self._send(Prefill(command.request, progress))
        told, gather_s = 0, 0.0
        for text in reply:
            self._send(Piece(command.request, text, tuple(reply.logprobs[told:])), gather_s)
            told, gather_s = len(reply.logprobs), command.gather_s
        if told < len(reply.logprobs):  # of tokens without a text
            self._send(Piece(command.request, "", tuple(reply.logprobs[told:]), 0))
        if reply.stats is not None:
            self._send(Finished(command.request, reply.stats, reply.sampling, model.context_used()))


def _hash_without_openssl() -> None:
    """Let `hashlib`, which the library of templates imports, use what Python has itself: OpenSSL takes 3.5 MiB, and
    here only names are hashed. A Python that was built without hashes of its own keeps it."""
    if all(importlib.util.find_spec(name) for name in ("_md5", "_sha1", "_sha3", "_blake2")):
        sys.modules.update({"_hashlib": None})  # type: ignore[dict-item]  # as `import` documents


def main() -> None:
    """Serve the parent over the original stdin and stdout, which nothing else in the process may then touch."""
    # An abort in ggml would start a debugger to print a backtrace: slow, and nobody reads it.
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    _hash_without_openssl()
    commands = os.fdopen(os.dup(0), "rb")
    events = Outlet(os.fdopen(os.dup(1), "wb"))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    log.to_file(paths.log_file())

    def send(event: Event, gather_s: float = 0.0) -> None:
        try:
            events.send(event, gather_s)
        except BrokenPipeError:
            os._exit(0)  # the parent is gone, and what would be said has no reader

    try:
        Child(send).run(commands.readline)
    except KeyboardInterrupt:
        # Ctrl-C in a terminal reaches the whole process group; the parent decides what it means.
        sys.exit(130)
