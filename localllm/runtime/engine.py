"""One context of llama.cpp that serves several replies at once from one KV cache. Knows tokens only: no text, no chats.

There is no thread of the engine's own. Whoever waits for a token does a step for everyone: it decodes one batch, with
the next token of every reply that is being written and a part of every prompt that is being read, and samples. The
others wait, or find their token ready. So one reply alone costs no hand-over between threads.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from localllm.errors import ContextFull, EngineDied
from localllm.native import handles, lib, spin
from localllm.native.batch import Batch
from localllm.native.kv import KV
from localllm.native.vocab import Vocab
from localllm.runtime.draft import Drafter
from localllm.runtime.sampler import Sampler
from localllm.runtime.sequences import Sequences
from localllm.runtime.snapshots import Snapshots
from localllm.runtime.stream import Stream

# Return codes of llama_decode, from llama.h.
_DONE, _NO_SLOT, _ABORTED = 0, 1, 2

AHEAD = 4
"""Tokens that a reply may be ahead of who reads it, so that readers who are a little late still share a batch."""

MARGIN = 64
"""Cells that must be free beside a reply that had to leave the KV cache, before it comes back to others that go on."""

SHARED_CHUNK = 256
"""Tokens of a prompt that are read in a batch while others wait for their next token."""


@dataclass(frozen=True)
class _Part:
    """What one stream has in a batch: `tokens`, the last of them `guesses`.

    `output` is the index of the token before the guesses, from where on there are logits; -1 if there are none.
    """

    stream: Stream
    tokens: array[int]
    guesses: array[int]
    output: int


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
    ) -> None:
        self._api = lib.llama()
        self._vocab, self._context = vocab, context
        self._chunk = min(chunk, context.n_batch)  # llama.cpp ends the process over a larger batch
        self._batch = Batch(self._chunk)
        self._kv = kv
        self._guesses = 0 if kv.whole else guesses  # a wrong one must be taken back
        self._sequences = Sequences(kv, sequences, ram, disk)
        self._changed = threading.Condition()
        self._streams: list[Stream] = []
        self._stepping: list[Stream] = []  # for whom a step runs now
        self._ended: list[Stream] = []  # given back while a step ran
        self._closed = False

    def close(self) -> None:
        """End all streams, wait for the step that runs, keep on disk what was computed, and free the context."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            for stream in self._streams:
                self._cancel(stream)
            self._changed.wait_for(lambda: not self._stepping)
            for stream in list(self._streams):
                self._drop(stream)
            self._sequences.keep()
            self._batch.close()
            self._context.close()

    def start(
        self, prompt: Sequence[int], sampler: Sampler, max_tokens: int = 0, drafter: Drafter | None = None
    ) -> Stream:
        """A reply to `prompt`; nothing is computed before the first `next_token`. Give it back with `end`.

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
                hint="Make the context larger with --ctx, shorten the prompt, start a new chat, or let the oldest "
                "turns go with --window drop-oldest-turns.",
            )
        stream = Stream(prompt, sampler, max_tokens, drafter if self._guesses else None)
        with self._changed:
            self.check_open()
            self._streams.append(stream)
        return stream

    def next_token(self, stream: Stream) -> int | None:
        """The next token of the answer; None at its end, then `stream.reason` says why.

        Raises:
            EngineDied, ContextFull: llama.cpp failed, or the KV cache has no room even for this reply alone.
        """
        while True:
            with self._changed:
                stream.waiting = True
                self._changed.wait_for(lambda: stream.ready or not stream.active or not self._stepping)
                if stream.ready or not stream.active:
                    stream.waiting = False
                    return self._taken(stream)
                self._context.stop_flag.value = b""
                self._stepping = self._group(stream)
            try:
                self._step(self._stepping)
            except BaseException:
                stream.finish("cancelled")
                raise
            finally:
                with self._changed:
                    self._stepping = []
                    for ended in self._ended:
                        self._drop(ended)
                    self._ended.clear()
                    self._changed.notify_all()

    def cancel(self, stream: Stream) -> None:
        """End a stream soon, also in the middle of a decode on the CPU. What was sampled for it is dropped."""
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

    def ram(self) -> int:
        """Bytes of the conversations that are in RAM because they had to leave the KV cache."""
        with self._changed:
            return self._sequences.states.bytes

    @property
    def n_ctx(self) -> int:
        """Tokens that the context holds."""
        return self._context.n_ctx

    def check_open(self) -> None:
        """Raises `EngineDied` after `close()`."""
        if self._closed:
            raise EngineDied("The model is closed.", hint="Load it again.")

    def _cancel(self, stream: Stream) -> None:
        if stream.active:
            stream.finish("cancelled")
            stream.ready.clear()
            if stream in self._stepping:
                # The abort ends the step for everyone in it; the others do it again.
                self._context.stop_flag.value = b"x"

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

    # What follows runs in the thread that does a step, one at a time.

    def _group(self, leader: Stream) -> list[Stream]:
        """The streams to compute for: the leader, then whoever waits or is not far ahead of its reader."""
        others = [stream for stream in self._streams if stream is not leader and stream.active]
        # A prompt is read for who waits for it; a reply that is being written may go on a little where it is.
        wanted = [other for other in others if other.waiting or (other.sequence and not other.in_prompt)]
        return [leader, *(other for other in wanted if len(other.ready) < AHEAD)]

    def _step(self, group: list[Stream]) -> None:
        """Decode one batch for `group` and sample. A stream for which there is no place has to wait."""
        spin.watch()
        placed: list[Stream] = []
        for stream in sorted(group, key=lambda stream: stream.sequence is None):
            if (not placed or self._has_room(stream)) and self._place(stream, group):
                placed.append(stream)
        while placed:
            parts = self._fill(placed)
            code = self._decode(parts)
            if code == _NO_SLOT and (self._sequences.make_room() or self._give_way(placed)):
                continue
            if code == _DONE:
                self._sample(parts)
            elif code == _NO_SLOT:
                self._fail(parts, ContextFull("The KV cache has no room for more tokens.", hint="Use a larger --ctx."))
            elif code != _ABORTED:
                reason = "; ".join(lib.recent_problems()) or f"code {code}"
                text = f"llama.cpp could not evaluate the prompt: {reason}."
                self._fail(parts, EngineDied(text, hint="Try again, or reload the model."))
            return

    def _place(self, stream: Stream, group: list[Stream]) -> bool:
        """Whether the stream has a sequence, now; one that nobody waits for is taken from its stream if need be."""
        if stream.sequence is not None:
            self._sequences.settle(stream.sequence)
            return True
        sequence = self._sequences.take(stream.tokens)
        if sequence is None:
            resting = [other for other in self._streams if other.sequence is not None and other not in group]
            if not resting:
                return False
            self._move_out(resting[0])
            sequence = self._sequences.take(stream.tokens)
        if sequence is not None:
            stream.placed(sequence)
        return sequence is not None

    def _has_room(self, stream: Stream) -> bool:
        """Whether a reply that had to leave can come back and go on for a while, with the others where they are."""
        if stream.sequence is not None or not stream.crowded_out:
            return True
        return self._sequences.taken_cells() + len(stream.tokens) + MARGIN <= self._context.n_ctx

    def _give_way(self, placed: list[Stream]) -> bool:
        """Move out the youngest of the streams with cells: first one that rests, then one that is in this step."""
        resting = [stream for stream in self._streams if stream.sequence is not None and stream not in placed]
        victim = resting[-1] if resting else placed[-1] if len(placed) > 1 else None
        if victim is None:
            return False
        self._move_out(victim)
        victim.crowded_out = True
        if victim in placed:
            placed.remove(victim)
        return True

    def _move_out(self, stream: Stream) -> None:
        if stream.sequence is not None:
            self._sequences.park(stream.sequence)
            stream.sequence = None

    def _fill(self, streams: list[Stream]) -> list[_Part]:
        """Put into the batch the next token of who writes, and a part of the prompt of who reads, as far as it goes."""
        self._batch.clear()
        parts: list[_Part] = []
        guessable = self._guesses
        for stream in sorted(streams, key=lambda stream: stream.left):
            room = self._chunk - len(self._batch)
            if parts and stream.left > 1:
                room = min(room, SHARED_CHUNK)
            sequence = stream.sequence
            if room <= 0 or sequence is None:
                continue
            start, end = len(sequence.tokens), len(stream.tokens)
            if self._kv.whole and stream.in_prompt and end - start > 1:
                end -= 1  # so that there is a way back to just before the answer
            tokens = stream.tokens[start : min(end, start + room)]
            complete = start + len(tokens) == len(stream.tokens)
            guesses = stream.draft(min(guessable, room - 1), self._context.n_ctx)
            guessable -= len(guesses)
            tokens += guesses
            first = self._batch.add(sequence.id, start, tokens, outputs=complete + len(guesses))
            parts.append(_Part(stream, tokens, guesses, first if complete else -1))
        return parts

    def _decode(self, parts: list[_Part]) -> int:
        """Run the batch. The sequences hold afterwards what was there before, or that and their part."""
        held = [(part, part.stream.sequence) for part in parts if part.stream.sequence is not None]
        for _, sequence in held:
            self._sequences.begin(sequence)  # Ctrl-C may be raised here at any line
        lib.forget_problems()
        code = int(self._api.llama_decode(self._context.pointer, self._batch.native))
        for part, sequence in held:
            if code == _DONE:
                self._sequences.added(sequence, part.tokens)
            else:
                self._sequences.settle(sequence)
        return code

    def _sample(self, parts: list[_Part]) -> None:
        for part in parts:
            stream = part.stream
            stream.evaluated()
            if part.output >= 0:
                self._sample_part(part)
            elif self._kv.whole and stream.left == 1 and stream.sequence is not None:
                self._sequences.checkpoint(stream.sequence)

    def _sample_part(self, part: _Part) -> None:
        """Sample behind the last token, and behind each guess for as long as it is what was sampled."""
        stream, right = part.stream, 0
        for index in range(len(part.guesses) + 1):
            token = stream.sampler.sample(self._context.pointer, part.output + index)
            stream.sampled(token, ends=self._vocab.ends_generation(token), n_ctx=self._context.n_ctx)
            if not stream.active or index == len(part.guesses) or token != part.guesses[index]:
                break
            right += 1
        if part.guesses:
            stream.checked(len(part.guesses), right)
            if stream.sequence is not None:
                self._sequences.take_back(stream.sequence, len(part.guesses) - right)

    def _fail(self, parts: list[_Part], error: Exception) -> None:
        for part in parts:
            part.stream.finish("cancelled", error)
