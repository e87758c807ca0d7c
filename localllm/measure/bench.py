"""What was measured of the choices for one model: each rate once, and again where it is close. Knows no search.

Decoding does not depend on the size of a ubatch, so choices that differ in nothing else share it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from localllm.errors import DoesNotFit, EngineDied
from localllm.measure.speed import Decoding, Effort, Rates, Speed, higher, measure_decode, measure_prefill, seconds
from localllm.native.handles import ModelHandle
from localllm.runtime.options import WIDE_KV_TYPES, Options
from localllm.runtime.plan import check_fits, make_plan
from localllm.runtime.tuned import Choice
from localllm.runtime.types import Plan

READS, WRITES = 400, 200
"""Tokens of the turn by which settings are compared: a question with some text, and an answer."""

WORTH_A_CHANGE, WORTH_QUANTIZED_KV = 1.02, 1.05
"""How many times faster something must be than the default, which noise can also make it; and than a cache that is not
quantized, which changes the answers a little."""

CLOSE = 1.15
"""What takes so many times as long as the best choice may be better in truth: measured again, it keeps its best rates,
for other programs only ever slow it down."""


@dataclass(frozen=True)
class Row:
    """Measured for a choice: `seconds` of a turn; `memory` in bytes, at the context that a load would choose."""

    choice: Choice
    speed: Speed
    seconds: float
    memory: int


@dataclass
class Bench:
    """Measures choices for a loaded model until the time `end`. `before` is what a load uses that nobody tuned."""

    model: ModelHandle
    plan: Plan
    before: Choice
    effort: Effort
    end: float
    on_row: Callable[[Row], None]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._prefills: dict[Choice, Rates] = {}
        self._decodings: dict[Choice, Decoding] = {}
        self._memory: dict[Choice, int] = {}
        self._left_out: set[Choice] = set()

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.end

    def knows(self, choice: Choice) -> bool:
        """Whether there is nothing left to find out: it was measured, or left out."""
        return choice in self._prefills or choice in self._left_out

    def measure(self, choice: Choice) -> None:
        """Measure a choice of which not all is known.

        Raises:
            DoesNotFit, EngineDied: it is `before`. Another one that fails is left out, with a note.
        """
        try:
            self._memory[choice] = self._planned(choice)
            decoder = self._decoder(choice)
            if decoder not in self._decodings:
                self._decodings[decoder] = measure_decode(self.model, self._options(choice), self.effort)
            if self._may_win(choice):
                self._prefills[choice] = measure_prefill(self.model, self._options(choice), self.effort)
            else:
                self._leave_out(choice, "Its decoding is too slow for any prefill to make up for.")
        except (DoesNotFit, EngineDied) as error:
            if choice == self.before:
                raise
            self._leave_out(choice, error.message)
        else:
            if choice in self._prefills:
                self.on_row(self.row(choice))

    def repeat(self) -> None:
        """Until the time is up, measure again what is close to the best, and `before`, with which it is compared."""
        limit = CLOSE * self.cost(self.best())
        close = [choice for choice in sorted(self._prefills, key=self.cost) if self.cost(choice) <= limit]
        done: set[Choice] = set()
        for choice in dict.fromkeys((*close, self.before)):
            if self.over:
                return
            decoder = self._decoder(choice)
            try:
                if decoder not in done:
                    again = measure_decode(self.model, self._options(choice), self.effort)
                    self._decodings[decoder] = self._decodings[decoder].best(again)
                    done.add(decoder)
                read = measure_prefill(self.model, self._options(choice), self.effort)
            except (DoesNotFit, EngineDied) as error:  # what was found before holds
                self.notes.append(f"Not measured again: {choice}. {error.message}")
                continue
            self._prefills[choice] = higher(self._prefills[choice], read)
            self.on_row(self.row(choice))

    def row(self, choice: Choice) -> Row:
        """What is known of a choice that was measured."""
        decoding = self._decodings[self._decoder(choice)]
        speed = Speed(self._prefills[choice], decoding.rates, decoding.check)
        return Row(choice, speed, speed.seconds(READS, WRITES), self._memory[choice])

    def rows(self) -> tuple[Row, ...]:
        """All that was measured, the fastest turn first."""
        return tuple(sorted(map(self.row, self._prefills), key=lambda row: row.seconds))

    def cost(self, choice: Choice) -> float:
        """Seconds of a turn, and more for what changes or quantizes something, which has to be clearly faster."""
        return self.row(choice).seconds * self._handicap(choice)

    def best(self) -> Choice:
        """The choice that costs least."""
        return min(self._prefills, key=self.cost)

    def _handicap(self, choice: Choice) -> float:
        quantized = any(kind not in WIDE_KV_TYPES for kind in choice.kv_type.split("/"))
        return (1.0 if choice == self.before else WORTH_A_CHANGE) * (WORTH_QUANTIZED_KV if quantized else 1.0)

    def _may_win(self, choice: Choice) -> bool:
        """Whether another number of threads could be best if it read as fast as it possibly can.

        Prefill computes, so that it grows no faster than the threads, and fewer never read faster.
        """
        if not self._prefills or choice.threads == (best := self.best()).threads:
            return True
        reading = seconds(self._prefills[best], READS) * min(1.0, best.threads / choice.threads)
        writing = seconds(self._decodings[self._decoder(choice)].rates, WRITES)
        return (reading + writing) * self._handicap(choice) < self.cost(best)

    def _leave_out(self, choice: Choice, why: str) -> None:
        self._left_out.add(choice)
        self.notes.append(f"Left out: {choice}. {why}")

    def _planned(self, choice: Choice) -> int:
        plan = make_plan(self.plan.path, self._options(choice))
        check_fits(plan)
        return plan.total

    def _decoder(self, choice: Choice) -> Choice:
        """Stands for all choices that decode alike."""
        return replace(choice, n_ubatch=self.before.n_ubatch)

    def _options(self, choice: Choice) -> Options:
        return replace(self.plan.options, **asdict(choice))
