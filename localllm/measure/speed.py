"""How fast one setting prefills and decodes, near the start of a context and deep in it. Without sampling and text.

To stand deep in a context without computing it, what was read is copied out of the KV cache and put behind itself. A
memory that cannot do that, such as a recurrent one, is filled by computing.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace

from localllm.errors import EngineDied
from localllm.native import lib, log, spin
from localllm.native.batch import Batch
from localllm.native.handles import ModelHandle
from localllm.native.kv import KV
from localllm.runtime.context import open_context
from localllm.runtime.options import Options

_SEQUENCE, _SPARE = 0, 1

_WARM_UP = 4
"""Tokens that are decoded untimed: the first ones start threads, allocate, and move copied cells to their places."""

_COPIED = 64
"""Tokens that are read to be copied, again and again, until the context is deep enough."""

_FEWEST, _MOST = 4, 64
"""Tokens that are decoded to tell a rate."""

CHECKED = 5
"""Tokens of a step that checks guesses: the last token, and some that were guessed."""

Rates = tuple[float, float]
"""Tokens per second near the start of a context, and deep in it."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: each rate for `seconds`, or one ubatch, which may take longer.

    Around the tokens `near` and `depth` of a context, so that ubatches of any size have as much to look back on. No
    more than `largest` tokens, at most twice `near`, are read at once, however large the ubatch is.
    """

    seconds: float
    largest: int
    near: int
    depth: int


@dataclass(frozen=True)
class Decoding:
    """`check` is how many times as long as one token a step of `CHECKED` tokens takes, near the start."""

    rates: Rates
    check: float

    def best(self, other: Decoding) -> Decoding:
        """The higher one of each rate: what else the machine does only ever slows it down."""
        return Decoding(higher(self.rates, other.rates), min(self.check, other.check))


@dataclass(frozen=True)
class Speed:
    """All the rates of one setting."""

    prefill: Rates
    decode: Rates
    check: float

    def seconds(self, reads: int, writes: int) -> float:
        """How long a turn takes that reads and writes so many tokens."""
        return seconds(self.prefill, reads) + seconds(self.decode, writes)


def seconds(rates: Rates, count: int) -> float:
    """How long `count` tokens take halfway between the two depths.

    The time of a token grows linearly with its depth, so the mean of both is that of a token halfway.
    """
    return sum(count / rate for rate in rates) / 2


def higher(first: Rates, second: Rates) -> Rates:
    """The higher one of each rate."""
    return max(first[0], second[0]), max(first[1], second[1])


def measure_prefill(model: ModelHandle, options: Options, effort: Effort) -> Rates:
    """Time how fast `options` read.

    Raises:
        DoesNotFit: there is no memory for it.
        EngineDied: llama.cpp refuses the settings, or cannot compute.
    """
    with _Run(model, options, effort) as run:
        return run.prefill(effort.near), run.prefill(effort.depth)


def measure_decode(model: ModelHandle, options: Options, effort: Effort) -> Decoding:
    """Time how fast `options` write, one token after the other; the size of a ubatch has no part in that.

    Raises:
        DoesNotFit, EngineDied: as `measure_prefill`.
    """
    with _Run(model, options, effort) as run:
        near, checks = run.decode(effort.near), run.checks()
        return Decoding((near, run.decode(effort.depth)), near / checks)


class _Run:
    """A context that is filled and timed. Owns the context."""

    def __init__(self, model: ModelHandle, options: Options, effort: Effort) -> None:
        self._api, self._seconds = lib.llama(), effort.seconds
        self._largest = min(options.n_ubatch, effort.largest)
        room = effort.depth + effort.largest + 2 * (_MOST + _WARM_UP) + CHECKED * _MOST + _COPIED
        batch = max(options.n_ubatch, CHECKED)
        wanted = replace(options, n_ctx=room, n_batch=batch, sequences=2, draft="ngram")
        self._context = open_context(model, wanted)
        self._kv = KV(model, self._context)
        self._largest = min(self._largest, self._context.n_batch)
        self._batch = Batch(max(self._largest, CHECKED))
        self._n_vocab = int(self._api.llama_vocab_n_tokens(model.vocab))
        self._at = 0

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def prefill(self, middle: int) -> float:
        """Tokens a second of ubatches around the token `middle`, read again and again from the same place on."""
        self._fill(middle if self._kv.whole else max(0, middle - self._largest // 2))
        place, spent, count = self._at, 0.0, 0
        state = self._kv.save(_SEQUENCE) if self._kv.whole and place else None
        while not count or spent < self._seconds:
            if count:
                self._back(place, state)
            start = time.perf_counter()
            self._step(self._largest)
            spent += time.perf_counter() - start
            count += self._largest
        return count / spent

    def decode(self, depth: int) -> float:
        """Tokens a second from `depth` on."""
        self._fill(depth)
        return self._steps_per_second(lambda: self._step(1))

    def checks(self) -> float:
        """Steps a second with several tokens, each of which could be sampled from."""
        return self._steps_per_second(lambda: self._step(CHECKED, outputs=CHECKED))

    def _steps_per_second(self, step: Callable[[], None]) -> float:
        count, start = 0, time.perf_counter()
        while True:
            step()
            count += 1
            spent = time.perf_counter() - start
            if count >= _MOST or (count >= _FEWEST and spent >= self._seconds):
                return count / spent

    def _step(self, count: int, outputs: int = 1) -> None:
        tokens = array("i", ((7919 * position + 13) % self._n_vocab for position in range(self._at, self._at + count)))
        spin.watch()
        self._batch.clear()
        self._batch.add(_SEQUENCE, self._at, tokens, outputs=outputs)
        code = self._api.llama_decode(self._context.pointer, self._batch.native)
        self._api.llama_synchronize(self._context.pointer)
        if code:
            raise EngineDied(f"llama.cpp could not compute: {'; '.join(log.recent_problems()) or f'code {code}'}.")
        self._at += count

    def _fill(self, depth: int) -> None:
        """Make the context `depth` tokens deep, or a little deeper where this memory cannot go back; and warm it up."""
        if self._at > depth:
            self._kv.clear()
            self._at = 0
        copied: int | None = None  # tokens, once there is something to copy
        state: bytearray | None = None
        while self._at < depth:
            if copied is None and self._at >= _COPIED:
                state, copied = self._kv.save(_SEQUENCE), self._at
            if state is not None and self._kv.append(_SEQUENCE, _SPARE, state, self._at):
                self._at += copied or 0
            else:
                state = None
                self._step(min(self._largest, _COPIED if copied is None else self._largest, depth - self._at))
        for _ in range(_WARM_UP):
            self._step(1)
        if not self._kv.whole:
            self._back(depth, None)

    def _back(self, place: int, state: bytearray | None) -> None:
        """Go back to an earlier `place`, whose state was saved where this memory can be cut nowhere."""
        if state is not None:
            self._kv.load(_SEQUENCE, state)
        elif not self._kv.cut(_SEQUENCE, place):
            self._kv.clear()
            place = 0
        self._at = place
