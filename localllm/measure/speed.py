"""How fast one setting prefills and decodes, at the start of a context and deep in it. Without sampling and text.

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
from localllm.native.handles import ContextHandle, ModelHandle
from localllm.native.kv import KV
from localllm.runtime.context import open_context
from localllm.runtime.options import Options

_SEQUENCE, _SPARE = 0, 1

_WARM_UP = 4
"""Tokens that are decoded untimed: the first ones start threads, allocate, and move copied cells to their places."""


@dataclass(frozen=True)
class Effort:
    """How much is measured: `chunk` tokens of prefill and `steps` tokens of decode, from nothing on and at `depth`."""

    chunk: int
    steps: int
    depth: int


CHECKED = 5
"""Tokens of a step that checks guesses: the last token, and some that were guessed."""


@dataclass(frozen=True)
class Speed:
    """Tokens per second, each at the start of a context and deep in it.

    `check` is how many times as long as one token a step of `CHECKED` tokens takes.
    """

    prefill: tuple[float, float]
    decode: tuple[float, float]
    check: float

    def seconds(self, reads: int, writes: int) -> float:
        """How long a turn takes that reads and writes so many tokens, halfway between the two depths.

        The time of a token grows linearly with its depth, so the mean of both is that of a token halfway.
        """
        return sum(reads / rate for rate in self.prefill) / 2 + sum(writes / rate for rate in self.decode) / 2

    def best(self, other: Speed) -> Speed:
        """The higher one of each rate: what else the machine does only ever slows it down."""
        check = min(self.check, other.check)
        return Speed(_higher(self.prefill, other.prefill), _higher(self.decode, other.decode), check)


def _higher(first: tuple[float, float], second: tuple[float, float]) -> tuple[float, float]:
    return max(first[0], second[0]), max(first[1], second[1])


def measure(model: ModelHandle, options: Options, effort: Effort) -> Speed:
    """Time `options` in a context that is as large as `effort` needs.

    Raises:
        DoesNotFit: there is no memory for it.
        EngineDied: llama.cpp refuses the settings, or cannot compute.
    """
    room = effort.depth + (2 + CHECKED) * (effort.chunk + effort.steps + _WARM_UP)
    wanted = replace(options, n_ctx=room, n_batch=max(options.n_ubatch, CHECKED), sequences=2, draft="ngram")
    context = open_context(model, wanted)
    run = _Run(model, context, options.n_ubatch)
    try:
        return run.measure(effort)
    finally:
        run.close()


class _Run:
    """A context that is filled and timed. Owns the context."""

    def __init__(self, model: ModelHandle, context: ContextHandle, n_ubatch: int) -> None:
        self._api = lib.llama()
        self._context, self._kv = context, KV(model, context)
        self._largest = min(n_ubatch, context.n_batch)
        self._batch = Batch(self._largest)
        self._n_vocab = int(self._api.llama_vocab_n_tokens(model.vocab))
        self._at = 0

    def close(self) -> None:
        self._context.close()

    def measure(self, effort: Effort) -> Speed:
        self._write(_WARM_UP)
        self._kv.clear()
        self._at = 0
        prefill, decode = self._rate(self._read, effort.chunk), self._rate(self._write, effort.steps)
        checks = self._rate(self._check, max(1, effort.steps // 4))
        self._fill(effort.depth)
        self._write(_WARM_UP)
        deep_decode, deep_prefill = self._rate(self._write, effort.steps), self._rate(self._read, effort.chunk)
        return Speed((prefill, deep_prefill), (decode, deep_decode), decode / checks)

    def _rate(self, work: Callable[[int], None], count: int) -> float:
        start = time.perf_counter()
        work(count)
        return count / (time.perf_counter() - start)

    def _read(self, count: int) -> None:
        """Prefill `count` tokens, in chunks as the engine does."""
        while count:
            part = min(count, self._largest)
            self._decode(part)
            count -= part

    def _write(self, count: int) -> None:
        """Decode `count` tokens, one after the other."""
        for _ in range(count):
            self._decode(1)

    def _check(self, count: int) -> None:
        """Take `count` steps of several tokens, each of which could be sampled from."""
        for _ in range(count):
            self._decode(CHECKED, outputs=CHECKED)

    def _decode(self, count: int, outputs: int = 1) -> None:
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
        """Make the context at least `depth` tokens deep."""
        state, count = self._kv.save(_SEQUENCE), self._at
        while self._at < depth:
            if state is not None and self._kv.append(_SEQUENCE, _SPARE, state, self._at):
                self._at += count
            else:
                state = None
                self._read(min(self._largest, depth - self._at))
