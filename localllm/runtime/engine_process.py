"""The child process that runs an engine, seen from its parent: the pipes to it, and whom its events are for.

Knows neither models nor replies, only that commands go in and events come out, and how to say why it ended.
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
from collections.abc import Callable
from typing import IO

from localllm import paths
from localllm.errors import EngineDied
from localllm.runtime.protocol import AskMemory, Command, Event, Finished, Memory, decode_event, encode

# Not `-m`: that would look for modules in the current folder first, which may be a folder of downloads.
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from localllm.runtime.child import main; main()"

_ANSWER_SECONDS = _CLOSE_SECONDS = 5

Events = queue.SimpleQueue[Event | None]
"""The events for one request; None when the process ended."""


class EngineProcess:
    """A child process. `close()` ends it. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close())
        # A session of its own: Ctrl-C in the terminal is for the program in front, which cancels or closes us.
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, json.dumps(paths.search_path())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._send_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._events: dict[int, Events] = {}
        self._memory: queue.Queue[Memory | None] = queue.Queue()
        self._memory_lock = threading.Lock()
        self._ended = self._closed = False
        self._told_of_end: list[Callable[[], object]] = []
        self.context_used = 0
        """Tokens in the KV cache when the engine last told."""
        self._reader = threading.Thread(target=self._read, name="engine events", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return self._child.poll()

    @property
    def ended(self) -> bool:
        """Whether its last event was read. It may have been told to end."""
        return self._ended

    @property
    def closed(self) -> bool:
        """Whether it was told to end."""
        return self._closed

    def when_ended(self, tell: Callable[[], object]) -> None:
        """Have `tell` called once its last event was read, from the thread that reads them; now, if it was."""
        with self._state_lock:
            if not self._ended:
                self._told_of_end.append(tell)
                return
        tell()

    def begin(self, request: int, command: Command) -> Events:
        """Send a command; returns where the events of `request` will come.

        Raises:
            EngineDied: the process ended.
        """
        events: Events = queue.SimpleQueue()
        with self._state_lock:
            if self._ended:
                raise self.death()
            self._events[request] = events
        self.send(command)
        return events

    def done(self, request: int) -> None:
        """The events of `request` have no reader any more."""
        with self._state_lock:
            self._events.pop(request, None)

    def send(self, command: Command) -> None:
        """Send a command that needs no answer, or has its place for it.

        Raises:
            EngineDied: the process ended.
        """
        try:
            with self._send_lock:
                if self._child.stdin is None or self._child.stdin.closed:
                    raise self.death()
                self._child.stdin.write(encode(command))
                self._child.stdin.flush()
        except OSError:
            raise self.death() from None

    def ask_memory(self) -> Memory:
        """Memory of the process now.

        Raises:
            EngineDied: the process ended, or gave no answer for some seconds.
        """
        with self._memory_lock:
            while not self._memory.empty():
                self._memory.get_nowait()  # an answer that came too late for its question
            self.send(AskMemory())
            try:
                answer = None if self._ended else self._memory.get(timeout=_ANSWER_SECONDS)
            except queue.Empty:
                raise EngineDied(f"The engine's process gave no answer for {_ANSWER_SECONDS} seconds.") from None
            if answer is None:
                raise self.death()
            self.context_used = answer.context_used
            return answer

    def close(self) -> None:
        """End the process, by force if it does not listen."""
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

    def kill(self) -> None:
        """End the process by force. Who waits for an event hears of its end."""
        self._child.kill()

    def death(self) -> EngineDied:
        """Why there is no answer, as an error."""
        if self._closed:
            return EngineDied("The engine was closed.", hint="Load the model again.")
        return EngineDied(
            f"The engine's process ended: {_why(self._child.poll())}{self._last_words()}.",
            hint="The conversation is safe, and goes on once the model is loaded again.",
        )

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
            for tell in self._told_of_end:
                tell()

    def _sort(self, event: Event) -> None:
        if isinstance(event, Memory):
            self._memory.put(event)
            return
        if isinstance(event, Finished):
            self.context_used = event.context_used
        with self._state_lock:
            waiting = self._events.get(getattr(event, "request", 0))
        if waiting is not None:
            waiting.put(event)

    def _last_words(self) -> str:
        if self._errors.closed or not hasattr(os, "pread"):
            return ""
        # Not seek and read: the child writes through the same file offset.
        descriptor = self._errors.fileno()
        end = os.fstat(descriptor).st_size
        lines = os.pread(descriptor, 2000, max(0, end - 2000)).decode("utf-8", "replace").strip().splitlines()
        return f" ({lines[-1].strip()})" if lines else ""


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
