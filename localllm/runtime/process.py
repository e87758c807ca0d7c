"""A model in a child process, with the interface of one in this process.

A native abort or the kernel's out-of-memory killer then takes the engine and not the program with the conversation;
closing it truly frees the memory; and the decode loop shares no interpreter lock with an interface.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from localllm.errors import EngineDied
from localllm.runtime.protocol import (
    AskMemory,
    Cancel,
    Command,
    Event,
    Failed,
    Finished,
    Generate,
    Load,
    Loaded,
    Loading,
    Memory,
    Piece,
    Prefill,
    as_error,
    decode_event,
    encode,
)
from localllm.runtime.session import Chat
from localllm.runtime.types import MemorySample, Message, ModelInfo, Options, Progress, Sampling, Stats, TokenLogprob

# Not `-m`: that would look for modules in the current folder first, which may be a folder of downloads.
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from localllm.runtime.child import main; main()"

_ANSWER_SECONDS = _CLOSE_SECONDS = 5


class ModelProcess:
    """A loaded model in a child process. Use it as a context manager, or `close()` it."""

    info: ModelInfo
    notes: tuple[str, ...]

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        # A session of its own: Ctrl-C in the terminal is for the program in front, which cancels or closes us.
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(_search_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._send_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._events: dict[int, queue.Queue[Event | None]] = {0: queue.Queue()}
        self._memory: queue.Queue[Memory | None] = queue.Queue()
        self._memory_lock = threading.Lock()
        self._context_used = 0
        self._requests = 0
        self._ended = self._closed = False
        self._reader = threading.Thread(target=self._read, name="engine events", daemon=True)
        self._reader.start()

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
            Cancelled: `cancelled` returned True.
            EngineDied: the process ended while loading.
        """
        model = cls()
        try:
            model._load(path, options or Options(), progress, cancelled)
        except BaseException:
            model.close()
            raise
        return model

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        return self._child.pid

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
        with self._memory_lock:
            while not self._memory.empty():
                self._memory.get_nowait()  # an answer that came too late for its question
            self._send(AskMemory())
            try:
                answer = None if self._ended else self._memory.get(timeout=_ANSWER_SECONDS)
            except queue.Empty:
                raise EngineDied(f"The engine's process gave no answer for {_ANSWER_SECONDS} seconds.") from None
            if answer is None:
                raise self._death()
            self._context_used = answer.context_used
            return answer.sample

    def context_used(self) -> int:
        """Tokens in the KV cache when the engine last told."""
        return self._context_used

    def close(self) -> None:
        """Stop a running reply and end the process, by force if it does not listen."""
        self._closed = True
        with contextlib.suppress(OSError):
            if self._child.stdin is not None:
                self._child.stdin.close()
        try:
            self._child.wait(timeout=_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join(timeout=_CLOSE_SECONDS)
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._errors.close()

    def _load(
        self,
        path: Path,
        options: Options,
        progress: Callable[[float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        events = self._events[0]
        self._send(Load(str(Path(path).absolute()), options))
        asked = False
        while True:
            try:
                event = events.get(timeout=0.1)
            except queue.Empty:
                if not asked and cancelled is not None and cancelled():
                    asked = True
                    self._send(Cancel(0))
                continue
            if isinstance(event, Loading) and progress is not None:
                progress(event.fraction)
            elif isinstance(event, Loaded):
                self.info, self.notes = event.info, event.notes
                return
            elif isinstance(event, Failed):
                raise as_error(event)
            elif event is None:
                raise self._death()

    def _request(
        self, messages: tuple[Message, ...], prompt: str | None, sampling: Sampling | None, max_tokens: int
    ) -> RemoteReply:
        with self._state_lock:
            self._requests += 1
            request = self._requests
        return RemoteReply(self, Generate(request, messages, prompt, sampling or Sampling(), max_tokens))

    def _begin(self, command: Generate) -> queue.Queue[Event | None]:
        """Send a request; returns where its events will come."""
        events: queue.Queue[Event | None] = queue.Queue()
        with self._state_lock:
            if self._ended:
                raise self._death()
            self._events[command.request] = events
        self._send(command)
        return events

    def _send(self, command: Command) -> None:
        try:
            with self._send_lock:
                if self._child.stdin is None or self._child.stdin.closed:
                    raise self._death()
                self._child.stdin.write(encode(command))
                self._child.stdin.flush()
        except OSError:
            raise self._death() from None

    def _read(self) -> None:
        """Sort events to whom they are for, until the child's stdout ends."""
        try:
            for line in self._child.stdout or ():
                # A line that is no event was printed by something else while Python started: not for us.
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._sort(decode_event(line))
        finally:
            self._child.wait()
            self._memory.put(None)
            with self._state_lock:
                self._ended = True
                for waiting in self._events.values():
                    waiting.put(None)

    def _sort(self, event: Event) -> None:
        if isinstance(event, Memory):
            self._memory.put(event)
            return
        if isinstance(event, Finished):
            self._context_used = event.context_used
        with self._state_lock:
            waiting = self._events.get(getattr(event, "request", 0))
        if waiting is not None:
            waiting.put(event)

    def _done(self, request: int) -> None:
        with self._state_lock:
            self._events.pop(request, None)

    def _death(self) -> EngineDied:
        if self._closed:
            return EngineDied("The engine was closed.", hint="Load the model again.")
        code = self._child.poll()
        return EngineDied(
            f"The engine's process ended: {_why(code)}{self._last_words()}.",
            hint="The conversation is safe. Load the model again to go on.",
        )

    def _last_words(self) -> str:
        if self._errors.closed or not hasattr(os, "pread"):
            return ""
        # Not seek and read: the child writes through the same file offset.
        descriptor = self._errors.fileno()
        end = os.fstat(descriptor).st_size
        lines = os.pread(descriptor, 2000, max(0, end - 2000)).decode("utf-8", "replace").strip().splitlines()
        return f" ({lines[-1].strip()})" if lines else ""


def _search_path() -> list[str]:
    """Where this process finds its modules, the current folder left out unless it was asked for by name."""
    here = str(Path(__file__).resolve().parent.parent.parent)
    return [str(Path(entry).absolute()) for entry in sys.path if entry] + [here]


def _why(code: int | None) -> str:
    if code is None:
        return "it does not answer"
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in {s.value for s in signal.Signals} else f"signal {-code}"
    if name == "SIGKILL":
        return "killed (SIGKILL), often by the system because memory ran out"
    if name == "SIGABRT":
        return "llama.cpp gave up (SIGABRT)"
    return f"killed by {name}"


class RemoteReply:
    """A reply made in the child process; see `Reply`. The request is sent when the iteration begins."""

    def __init__(self, owner: ModelProcess, command: Generate) -> None:
        self.sampling = command.sampling
        self.text = ""
        self.logprobs: list[TokenLogprob] = []
        self._owner = owner
        self._command = command
        self._events: queue.Queue[Event | None] | None = None
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
                    return event.text
                continue
            if isinstance(event, Prefill):
                self._progress = event.progress
                continue
            self._end()
            if isinstance(event, Finished):
                self._stats, self.sampling = event.stats, event.sampling
                raise StopIteration
            raise as_error(event) if isinstance(event, Failed) else self._owner._death()

    def _begin(self) -> queue.Queue[Event | None]:
        try:
            self._events = self._owner._begin(self._command)
            if self._cancelled:
                self._owner._send(Cancel(self._command.request))
        except EngineDied:
            self._end()
            raise
        return self._events

    def _end(self) -> None:
        self._ended = True
        self._owner._done(self._command.request)

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
                self._owner._send(Cancel(self._command.request))

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
