"""One reply in the engine: its tokens so far, what is left to evaluate, and what it cost. Knows no llama.cpp."""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable

from localllm.runtime.draft import Drafter
from localllm.runtime.sampler import Sampler
from localllm.runtime.sequences import Sequence
from localllm.runtime.types import Progress, Stats, StopReason

NOTHING = array("i")


class Stream:
    """A reply to `prompt`, of at most `max_tokens` (0: no limit), with guesses of a `drafter`.

    `tokens` are the prompt and what was sampled, less what had to go to make room; `answer` is all that was sampled.

    `ready` are sampled tokens that the caller has not taken yet, `taken` counts the others. `sequence` is where it
    stands in the KV cache, None while it has no place there. `reason` is set when nothing more will be sampled.
    `anew` is True until it has a place, if nothing that was computed before shall be used.
    """

    def __init__(
        self,
        prompt: Iterable[int],
        sampler: Sampler,
        max_tokens: int,
        drafter: Drafter | None = None,
        *,
        anew: bool = False,
    ) -> None:
        self.tokens = array("i", prompt)
        self.answer = array("i")
        self.sampler = sampler
        self._drafter = drafter
        self.anew = anew
        self._drafted = self._accepted = 0
        self.sequence: Sequence | None = None
        self.ready: deque[int] = deque()
        self.waiting = False
        self.crowded_out = False  # it had to leave the KV cache because others needed the room
        self.reason: StopReason | None = None
        self.error: BaseException | None = None
        self.progress: Progress | None = None
        self.on_progress: Callable[[Progress], None] | None = None
        self._max_tokens = max_tokens
        self._prompt = len(self.tokens)
        self._reused: int | None = None
        self.taken = self._sampled = 0
        self._started = time.perf_counter()
        self._first = self._last = 0.0

    @property
    def active(self) -> bool:
        """Whether there is more to sample."""
        return self.reason is None

    @property
    def left(self) -> int:
        """Tokens that have to be evaluated before the next one can be sampled."""
        return len(self.tokens) - (len(self.sequence.tokens) if self.sequence else 0)

    @property
    def in_prompt(self) -> bool:
        """Whether nothing was sampled yet."""
        return self._sampled == 0

    def placed(self, sequence: Sequence) -> None:
        """It has a place in the KV cache, which holds some of its tokens already."""
        self.sequence = sequence
        self.anew = False
        if self._reused is None:
            self._reused = len(sequence.tokens)
            self.evaluated()

    def evaluated(self) -> None:
        """More of the prompt is in the KV cache: tell who wants to know."""
        if self.in_prompt and self.sequence is not None:
            self.progress = Progress(len(self.sequence.tokens), self._prompt, self._reused or 0)
            if self.on_progress is None or not self.active:
                return
            try:
                self.on_progress(self.progress)
            except Exception as error:  # of this reply's caller, who need not be the one whose thread this is
                self.finish("cancelled", error)

    def draft(self, most: int, n_ctx: int) -> array[int]:
        """Guesses of the tokens after the last one, if that is all that is to be evaluated."""
        if most <= 0 or self._drafter is None or self.in_prompt or self.left != 1:
            return NOTHING
        most = min(most, n_ctx - len(self.tokens))
        if self._max_tokens:
            most = min(most, self._max_tokens - len(self.answer) - 1)
        return self._drafter.propose(self.tokens, most) if most > 0 else NOTHING

    def checked(self, proposed: int, accepted: int) -> None:
        """So many of the last guesses were proposed and right."""
        self._drafted += proposed
        self._accepted += accepted
        if self._drafter is not None:
            self._drafter.checked(proposed, accepted)

    def close(self) -> None:
        """Free what samples and guesses."""
        self.sampler.close()
        if self._drafter is not None:
            self._drafter.close()

    def sampled(self, token: int, *, ends: bool, n_ctx: int) -> None:
        """The next token was picked. `ends`: it ends the model's turn, and is no part of the answer."""
        if self.reason is not None:
            return  # cancelled meanwhile
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self._sampled += 1
        if ends:
            self.finish("end")
            return
        self.tokens.append(token)
        self.answer.append(token)
        self.ready.append(token)
        if len(self.answer) == self._max_tokens:
            self.finish("length")
        elif len(self.tokens) > n_ctx:
            self.finish("context")

    def go_on(self, tokens: array[int]) -> None:
        """It ended because the context is full, and goes on with `tokens`, which are fewer."""
        self.tokens = tokens
        self.reason = None

    def said(self) -> array[int]:
        """The tokens of the answer that were taken."""
        return self.answer[: self.taken]

    def take(self) -> int:
        """The next token of the answer, which is there."""
        self.taken += 1
        return self.ready.popleft()

    def finish(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Nothing more will be sampled."""
        if self.reason is None:
            self.reason, self.error = reason, error

    def stop(self) -> None:
        """The answer ends with what was taken; what was sampled beyond is dropped."""
        self.reason = "stop"
        self.ready.clear()

    @property
    def stats(self) -> Stats:
        """What it cost up to now."""
        reused = self._reused or 0
        ttft = (self._first or time.perf_counter()) - self._started
        seconds = self._last - self._first
        return Stats(
            prompt_tokens=self._prompt,
            cached_tokens=reused,
            completion_tokens=self.taken,
            ttft_s=round(ttft, 4),
            prefill_tps=round((self._prompt - reused) / ttft, 2) if self._sampled else 0.0,
            decode_tps=round((self._sampled - 1) / seconds, 2) if self._sampled > 1 else 0.0,
            stop_reason=self.reason if self.reason and not self.ready else "cancelled",
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
        )
