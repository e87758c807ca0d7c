"""One context of llama.cpp that serves several replies at once from one KV cache. Knows tokens only: no text, no chats.

Whoever waits for a token sees to a step for everyone: one batch is decoded, with the next token of every reply that is
being written and a part of every prompt that is being read, and sampled from. The others wait, or find their token
ready. A step for one reply alone is done by the thread that waits for it, so that it costs no hand-over. A step for
several is done by a thread of the engine's own: each of them may leave at any moment, and the others lose nothing.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from localllm.errors import ContextFull, EngineDied
from localllm.native import handles, lib
from localllm.native.kv import KV
from localllm.native.vocab import Vocab
from localllm.runtime.draft import Drafter
from localllm.runtime.sampler import Sampler
from localllm.runtime.sequences import Sequences
from localllm.runtime.snapshots import Snapshots
from localllm.runtime.step import Step
from localllm.runtime.stream import Stream

AHEAD = 4
"""Tokens that a reply may be ahead of who reads it, so that readers who are a little late still share a batch."""


class Engine:
    """Serves streams with one context. All methods may be called from any thread."""

    def __init__(
        self,
        vocab: Vocab,
        context: handles.ContextHandle,
        kv: KV,
        *,
        chunk: int,
        sequences: int,
        ram: int,
        disk: Snapshots | None = None,
        guesses: int = 0,
        looks_at_all: bool = False,
    ) -> None:
        self._context = context
        self._sequences = Sequences(kv, sequences, ram, disk, looks_at_all=looks_at_all)
        self._step = Step(vocab, context, kv, self._sequences, chunk=chunk, guesses=guesses)
        self._lock = threading.RLock()  # that of the condition: to take it by itself costs no function of Python
        self._changed = threading.Condition(self._lock)
        self._streams: list[Stream] = []
        self._stepping: list[Stream] = []  # for whom a step runs now
        self._begun = False  # the thread for shared steps has taken it up
        self._shared_steps = ThreadPoolExecutor(1, "shared steps")  # has no thread before there is one to do
        self._ended: list[Stream] = []  # given back while a step ran
        self._closed = False

    def close(self) -> None:
        """End all streams, wait for the step that runs, keep on disk what was computed, and free the context.

        Safe to call again, also after Ctrl-C came in the middle of it.
        """
        with self._changed:
            self._closed = True
            for stream in self._streams:
                self._cancel(stream)
            self._changed.wait_for(lambda: not self._stepping)
            self._shared_steps.shutdown(wait=False)
            for stream in list(self._streams):
                self._drop(stream)
            if self._context.pointer is not None:
                self._sequences.keep()
                self._context.close()

    def start(
        self,
        prompt: Sequence[int],
        sampler: Sampler,
        max_tokens: int = 0,
        drafter: Drafter | None = None,
        *,
        anew: bool = False,
    ) -> Stream:
        """A reply to `prompt`; nothing is computed before the first `next_token`. Give it back with `end`.

        With `anew` the whole prompt is computed, whatever of it is in the KV cache.

        Raises:
            ContextFull: the prompt alone fills the context.
            EngineDied: the engine is closed.
            ValueError: the prompt is empty.
        """
        n_ctx = self._context.n_ctx
        if not prompt:
            raise ValueError("the prompt has no tokens")
        if len(prompt) >= n_ctx:
            raise ContextFull(
                f"The prompt has {len(prompt):,} tokens and the context holds {n_ctx:,}: "
                f"{len(prompt) - n_ctx + 1:,} too many (one must be left for the answer).",
                hint="Make the context larger (--ctx, n_ctx in Python), shorten the prompt, start a new chat, or let "
                "the oldest turns go (--window drop-oldest-turns, window in Python).",
            )
        stream = Stream(prompt, sampler, max_tokens, drafter, anew=anew)
        with self._changed:
            self.check_open()
            self._streams.append(stream)
        return stream

    def next_token(self, stream: Stream) -> int | None:
        """The next token of the answer; None at its end, then `stream.reason` says why.

        Raises:
            EngineDied, ContextFull: llama.cpp failed, or the KV cache has no room even for this reply alone.
        """
        group: list[Stream] = []  # for whom this thread sees to a step
        try:
            while True:
                with self._lock:
                    stream.waiting = True
                    while self._stepping and not stream.ready and stream.active:
                        self._changed.wait()
                    if stream.ready or not stream.active:
                        stream.waiting = False
                        return self._taken(stream)
                    group = self._group(stream) if len(self._streams) > 1 else [stream]
                    self._begun, self._stepping = False, group
                    self._context.stop_flag.value = b""
                if len(group) > 1:
                    lib.check_not_forked()
                    self._shared_steps.submit(self._shared_step, stream, group)
                else:
                    self._step.run(group, self._streams)
                    self._step_over(group)
        except BaseException:
            with self._changed:
                self._cancel(stream)
                if not self._begun:  # it goes on for the others if it has
                    self._step_over(group)
            raise

    def _shared_step(self, leader: Stream, group: list[Stream]) -> None:
        """A step for several. What goes wrong in it is told to who asked for it."""
        with self._changed:
            if self._stepping is not group:
                return  # Ctrl-C came to the leader before this was taken up
            self._begun = True
        try:
            self._step.run(group, self._streams)
        except BaseException as error:  # raised again by `next_token`
            leader.finish("cancelled", error)
        finally:
            self._step_over(group)

    def cancel(self, stream: Stream) -> None:
        """End a stream at once, also in the middle of a decode on the CPU. What was sampled for it is dropped.

        Others in the same step go on undisturbed.
        """
        with self._changed:
            self._cancel(stream)

    def stop(self, stream: Stream) -> None:
        """End a stream with the tokens that were taken. Others go on undisturbed."""
        with self._changed:
            stream.stop()

    def end(self, stream: Stream) -> None:
        """The stream is not read any further: its sampler is freed, what it computed stays in the KV cache."""
        with self._changed:
            self._cancel(stream)
            if self._stepping:
                self._ended.append(stream)
            else:
                self._drop(stream)

    def go_on(self, stream: Stream, tokens: array[int]) -> None:
        """A stream that ended because the context is full goes on with `tokens`, which are fewer.

        What they leave out is cut from the KV cache where that can be; else they are evaluated again.
        """
        with self._changed:
            self.check_open()
            self._changed.wait_for(lambda: not self._stepping)
            if stream.sequence is not None and not self._sequences.shift(stream.sequence, tokens):
                self._leave(stream)
            stream.go_on(tokens)

    def forget(self) -> None:
        """Empty the KV cache and the states in RAM. Streams that are not at their end compute again what they need."""
        with self._changed:
            self.check_open()
            self._changed.wait_for(lambda: not self._stepping)
            for stream in self._streams:
                self._leave(stream)
            self._sequences.clear()

    def cells(self) -> int:
        """Tokens in the KV cache, of all conversations."""
        with self._changed:
            return 0 if self._closed else self._sequences.cells()

    def latest(self) -> int:
        """Tokens of the conversation that was used last."""
        with self._changed:
            return 0 if self._closed else self._sequences.latest()

    def spared(self, prompt: array[int]) -> int:
        """How many tokens of `prompt` a reply would not have to compute. Waits for the step that runs."""
        with self._changed:
            self.check_open()
            self._changed.wait_for(lambda: not self._stepping)
            return self._sequences.spared(prompt)

    def ram(self) -> int:
        """Bytes of the conversations that are in RAM because they had to leave the KV cache."""
        with self._changed:
            return self._sequences.states.bytes

    def disk(self) -> int:
        """Bytes of the conversations on disk that this engine can take up."""
        with self._changed:
            return self._sequences.disk_bytes()

    @property
    def n_ctx(self) -> int:
        """Tokens that the context holds."""
        return self._context.n_ctx

    def check_open(self) -> None:
        """Raises `EngineDied` after `close()`."""
        if self._closed:
            raise EngineDied("The model is closed.", hint="Load it again.")

    def _step_over(self, group: list[Stream]) -> None:
        """Let the others go on after the step of `group`."""
        with self._lock:
            if self._stepping is not group:
                return
            for stream in group:
                if stream.active and stream.left <= 0:  # Ctrl-C came before it was sampled from
                    self._leave(stream)
            self._stepping = []
            for ended in self._ended:
                self._drop(ended)
            self._ended.clear()
            self._changed.notify_all()

    def _cancel(self, stream: Stream) -> None:
        if stream.active:
            stream.finish("cancelled")
            stream.ready.clear()
            if stream in self._stepping and not any(other.active for other in self._stepping):
                self._context.stop_flag.value = b"x"
            self._changed.notify_all()

    def _drop(self, stream: Stream) -> None:
        if stream in self._streams:
            self._streams.remove(stream)
            self._leave(stream)
            stream.close()

    def _taken(self, stream: Stream) -> int | None:
        if stream.ready:
            return stream.take()
        if stream.error is not None:
            raise stream.error
        return None

    def _leave(self, stream: Stream) -> None:
        if stream.sequence is not None:
            self._sequences.release(stream.sequence)
            stream.sequence = None

    def _group(self, leader: Stream) -> list[Stream]:
        """The streams to compute for: the leader, then whoever waits or is not far ahead of its reader."""
        others = [stream for stream in self._streams if stream is not leader and stream.active]
        # A prompt is read for who waits for it; a reply that is being written may go on a little where it is.
        wanted = [other for other in others if other.waiting or (other.sequence and not other.in_prompt)]
        return [leader, *(other for other in wanted if len(other.ready) < AHEAD)]
