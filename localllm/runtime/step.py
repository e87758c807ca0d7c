"""One step of the engine: a batch for several replies is put together, decoded and sampled from.

For one thread at a time. Knows no threads and no text.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from localllm.errors import ContextFull, EngineDied
from localllm.native import handles, lib, log, spin
from localllm.native.batch import Batch
from localllm.native.kv import KV
from localllm.native.vocab import Vocab
from localllm.runtime.sequences import Sequences
from localllm.runtime.stream import Stream

# Return codes of llama_decode, from llama.h.
_DONE, _NO_SLOT, _ABORTED = 0, 1, 2

MARGIN = 64
"""Cells that must be free beside a reply that had to leave the KV cache, before it comes back to others that go on."""

_LARGER = "Use a larger context: --ctx, n_ctx in Python."

SHARED_CHUNK = 256
"""Tokens of a prompt that are read in a batch while others wait for their next token."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one stream has in a batch: `tokens`, the last of them `guesses`.

    `output` is the index of the token before the guesses, from where on there are logits; -1 if there are none.
    """

    stream: Stream
    tokens: array[int]
    guesses: array[int]
    output: int


class Step:
    """Steps of one context, whose sequences are `sequences`.

    A batch has at most `chunk` tokens, and of those at most `guesses` that were guessed.
    """

    def __init__(
        self,
        vocab: Vocab,
        context: handles.ContextHandle,
        kv: KV,
        sequences: Sequences,
        *,
        chunk: int,
        guesses: int,
    ) -> None:
        self._api = lib.llama()
        self._vocab, self._context, self._kv, self._sequences = vocab, context, kv, sequences
        self._chunk = min(chunk, context.n_batch)  # llama.cpp ends the process over a larger batch
        self._guesses = 0 if kv.whole else guesses  # a wrong one must be taken back
        self._batch = Batch(self._chunk)

    def run(self, group: list[Stream], streams: list[Stream]) -> None:
        """Decode one batch for `group`, some of all `streams`, and sample. One for which there is no place waits."""
        lib.check_not_forked()
        spin.watch()
        if len(group) == 1 and not self._guesses and self._went_on(group[0]):
            return
        placed: list[Stream] = []
        for stream in sorted(group, key=lambda stream: stream.sequence is None):
            if (not placed or self._has_room(stream)) and self._place(stream, group, streams):
                placed.append(stream)
        while placed:
            parts = self._fill(placed)
            code = self._decode(parts)
            if code == _NO_SLOT and (self._sequences.make_room() or self._give_way(placed, streams)):
                continue
            if code == _DONE:
                self._sample(parts)
            elif code == _NO_SLOT:
                self._fail(parts, ContextFull("The KV cache has no room for more tokens.", hint=_LARGER))
            elif code != _ABORTED:
                reason = "; ".join(log.recent_problems()) or f"code {code}"
                text = f"llama.cpp could not evaluate the prompt: {reason}."
                self._fail(parts, EngineDied(text, hint="Try again, or reload the model."))
            return

    def _went_on(self, stream: Stream) -> bool:
        """The usual step, of one reply that is being written: what `run` does, by a shorter way. False if it failed.

        After a decode, which reads all weights, hardly anything of Python is left in the processor's caches: each
        function, object and list that a token needs is a wait for memory, and costs ten times what it does in a loop.
        """
        sequence = stream.sequence
        if sequence is None or not sequence.settled or stream.in_prompt or stream.left != 1:
            return False
        self._batch.hold(sequence.id, len(sequence.tokens), stream.tokens[-1])
        self._sequences.begin(sequence)
        if self._api.llama_decode(self._context.pointer, self._batch.native) != _DONE:
            return False  # not settled: `run` does so before it tries again
        self._sequences.added(sequence, stream.tokens[-1:])
        self._sample_one(stream, 0)
        return True

    def _place(self, stream: Stream, group: list[Stream], streams: list[Stream]) -> bool:
        """Whether the stream has a sequence, now; one that nobody waits for is taken from its stream if need be."""
        if stream.sequence is not None:
            self._sequences.settle(stream.sequence)
            return True
        sequence = self._sequences.take(stream.tokens, anew=stream.anew)
        if sequence is None:
            resting = [other for other in streams if other.sequence is not None and other not in group]
            if not resting:
                return False
            self._move_out(resting[0])
            sequence = self._sequences.take(stream.tokens, anew=stream.anew)
        if sequence is not None:
            stream.placed(sequence)
        return sequence is not None

    def _has_room(self, stream: Stream) -> bool:
        """Whether a reply that had to leave can come back and go on for a while, with the others where they are."""
        if stream.sequence is not None or not stream.crowded_out:
            return True
        return self._sequences.taken_cells() + len(stream.tokens) + MARGIN <= self._context.n_ctx

    def _give_way(self, placed: list[Stream], streams: list[Stream]) -> bool:
        """Move out the youngest of the streams with cells: first one that rests, then one that is in this step."""
        resting = [stream for stream in streams if stream.sequence is not None and stream not in placed]
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
        log.forget_problems()
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
            token = self._sample_one(stream, part.output + index)
            if not stream.active or index == len(part.guesses) or token != part.guesses[index]:
                break
            right += 1
        if part.guesses:
            stream.checked(len(part.guesses), right)
            if stream.sequence is not None:
                self._sequences.take_back(stream.sequence, len(part.guesses) - right)

    def _sample_one(self, stream: Stream, output: int) -> int | None:
        """Sample the next token of a stream from the logits at `output`. None if that fails, which ends the stream."""
        try:
            token = stream.sampler.sample(self._context.pointer, output)
        except Exception as error:  # a dead end of its grammar: the others in the batch go on
            stream.finish("cancelled", error)
            return None
        stream.sampled(token, ends=self._vocab.ends_generation(token), n_ctx=self._context.n_ctx)
        return token

    def _fail(self, parts: list[_Part], error: Exception) -> None:
        for part in parts:
            part.stream.finish("cancelled", error)
