"""The settings with which a model is fastest on this machine, found by measuring them in turns.

One setting after the other: flash attention with the types of the KV cache, then threads, then the size of a ubatch.
What is measured once more keeps its best rates, for other programs only ever slow it down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from localllm.errors import DoesNotFit, EngineDied
from localllm.gguf_file import read_header, read_parts
from localllm.measure.speed import Effort, Speed, measure
from localllm.native import machine
from localllm.native.handles import ModelHandle
from localllm.runtime import tuned
from localllm.runtime.loading import open_weights
from localllm.runtime.options import DEFAULT_KV_TYPE, WIDE_KV_TYPES, Options
from localllm.runtime.plan import check_fits, make_plan
from localllm.runtime.tuned import Choice
from localllm.runtime.types import Plan

SECONDS = 45.0
"""How long it measures; what is under way then is finished."""

READS, WRITES = 400, 200
"""Tokens of the turn by which settings are compared: a question with some text, and an answer."""

DEPTH = 2048
"""Tokens of the deeper one of the two measurements, if the model was trained with so many."""

ATTENTION = ((True, "f16"), (False, "f16"), (False, "q8_0/f16"), (True, "q8_0"))
"""Flash attention and types of K and V. Without flash attention V cannot be quantized."""

UBATCHES = (64, 128, 256, 512, 1024)

_SHARES = (0.5, 0.25, 0.25)  # of the time, for each of the three settings
_ROUNDS = 3
_CHUNK_SECONDS, _STEPS_SECONDS = 0.4, 0.25
_SMALLEST_CHUNK, _FEWEST_STEPS, _MOST_STEPS = 64, 4, 32

DRAFTING_PAYS = 3.0
"""How many times as long as one token a step of `speed.CHECKED` may take, for guesses from text that repeats to pay:
they do then when somewhat more than half of them are right, and where text does not repeat none are made."""

WORTH_A_CHANGE, WORTH_QUANTIZED_KV = 1.02, 1.05
"""How many times faster something must be than the default, which noise can also make it; and than a cache that is not
quantized, which changes the answers a little."""


@dataclass(frozen=True)
class Row:
    """Measured for a choice: `seconds` of a turn; `memory` in bytes, at the context that a load would choose."""

    choice: Choice
    speed: Speed
    seconds: float
    memory: int


@dataclass(frozen=True)
class Tuning:
    """What was found. `before` is what a load without it would use; `notes` say what was not measured, and why."""

    path: Path
    choice: Choice
    before: Choice
    rows: tuple[Row, ...]
    effort: Effort
    seconds: float
    notes: tuple[str, ...] = ()

    def row(self, choice: Choice) -> Row:
        """What was measured for `choice`, which is one of the rows."""
        return next(row for row in self.rows if row.choice == choice)

    @property
    def gain(self) -> float:
        """How many times faster a turn is than before."""
        return self.row(self.before).seconds / self.row(self.choice).seconds

    def as_json(self) -> dict[str, Any]:
        """What programs read: rates in tokens per second, memory in bytes."""
        return {
            "model": str(self.path),
            "choice": asdict(self.choice),
            "before": asdict(self.before),
            "gain": round(self.gain, 3),
            "turn": {"reads": READS, "writes": WRITES},
            "effort": asdict(self.effort),
            "rows": [asdict(row) for row in self.rows],
            "seconds": round(self.seconds, 1),
            "notes": list(self.notes),
        }


def tune(
    path: Path,
    *,
    gpu_layers: int | None = None,
    seconds: float = SECONDS,
    on_row: Callable[[Row], None] | None = None,
) -> Tuning:
    """Measure the GGUF at `path` for some `seconds` and choose. Stores nothing: see `store`.

    Raises:
        ModelNotFound, BadModelFile, UnsupportedModel, DoesNotFit: as a load.
        EngineDied: llama.cpp computes with no setting at all.
    """
    started = time.monotonic()
    plan = make_plan(path, Options(gpu_layers=gpu_layers, tuned=False))
    check_fits(plan)
    model, _ = open_weights(plan, [header.path for header in read_parts(path)], None)
    with model:
        bench = _Bench(model, plan, started + seconds, on_row or (lambda _: None))
        choice = _search(bench, seconds)
        choice = replace(choice, draft="ngram" if bench.speeds[choice].check <= DRAFTING_PAYS else "")
    rows = tuple(bench.row(measured) for measured in bench.speeds)
    took = time.monotonic() - started
    return Tuning(path, choice, bench.before, rows, bench.effort, took, tuple(bench.notes))


def store(found: Tuning, *, gpu_layers: int | None = None) -> Path:
    """Let loads of the model with the same `gpu_layers` use what was found, from now on. Returns the file.

    Raises:
        BadOutput: it cannot be written.
    """
    return tuned.store(found.path, Options(gpu_layers=gpu_layers), found.choice, found.as_json())


@dataclass
class _Bench:
    """Measures choices for one loaded model until the time `end`, and keeps the best rates of each."""

    model: ModelHandle
    plan: Plan
    end: float
    on_row: Callable[[Row], None]
    speeds: dict[Choice, Speed] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = self.plan.options
        self.before = Choice(options.threads, options.flash_attention is not False, options.kv_type, options.n_ubatch)
        self.effort = _effort(self.model, self.plan)
        self._memory: dict[Choice, int] = {}
        self._refused: set[Choice] = set()

    def compare(self, choices: Sequence[Choice], end: float) -> None:
        """Measure all of them in turns, until the time `end`; each once, if the time of all is not up before."""
        for number in range(_ROUNDS):
            for choice in choices:
                if time.monotonic() > (end if number else self.end) and self.speeds:
                    if choice not in self.speeds and number == 0:
                        self.notes.append(f"Not measured, for lack of time: {choice}.")
                    continue
                self._measure(choice)

    def row(self, choice: Choice) -> Row:
        speed = self.speeds[choice]
        return Row(choice, speed, speed.seconds(READS, WRITES), self._memory[choice])

    def _measure(self, choice: Choice) -> None:
        if choice in self._refused:
            return
        try:
            if choice not in self._memory:
                plan = make_plan(self.plan.path, self._options(choice))
                check_fits(plan)
                self._memory[choice] = plan.total
            speed = measure(self.model, self._options(choice), self.effort)
        except (DoesNotFit, EngineDied) as error:
            self._refused.add(choice)
            self.notes.append(f"Left out: {choice}. {error.message}")
            if choice == self.before:
                raise
            return
        known = self.speeds.get(choice)
        self.speeds[choice] = speed.best(known) if known else speed
        self.on_row(self.row(choice))

    def _options(self, choice: Choice) -> Options:
        return replace(self.plan.options, **asdict(choice))


def _search(bench: _Bench, seconds: float) -> Choice:
    best, end = bench.before, bench.end - seconds
    steps = (_attentions, _threads, _ubatches)
    for alternatives, share in zip(steps, _SHARES, strict=True):
        end += share * seconds
        others = [choice for choice in alternatives(best, bench.effort) if choice != best]
        if others:
            bench.compare([best, *others], end)
            best = _best(bench, [best, *others])
    return best


def _best(bench: _Bench, choices: Iterable[Choice]) -> Choice:
    """The choice with the fastest turn; one that changes or quantizes something has to be clearly faster."""

    def cost(choice: Choice) -> float:
        quantized = any(kind not in WIDE_KV_TYPES for kind in choice.kv_type.split("/"))
        handicap = 1.0 if choice == bench.before else WORTH_A_CHANGE
        return bench.row(choice).seconds * handicap * (WORTH_QUANTIZED_KV if quantized else 1.0)

    return min((choice for choice in choices if choice in bench.speeds), key=cost)


def _attentions(choice: Choice, _: Effort) -> list[Choice]:
    return [replace(choice, flash_attention=attention, kv_type=kv_type) for attention, kv_type in ATTENTION]


def _threads(choice: Choice, _: Effort) -> list[Choice]:
    """Fewer threads, which may be enough to read the memory as fast as it can be, and all hyperthreads."""
    limits = machine.limits()
    most = limits.allowed_cpus if limits.cpu_quota is None else min(limits.allowed_cpus, int(limits.cpu_quota))
    counts = (choice.threads - 1, choice.threads // 2, most)
    return [replace(choice, threads=count) for count in dict.fromkeys(counts) if count >= 1]


def _ubatches(choice: Choice, effort: Effort) -> list[Choice]:
    """Those that the tokens of one measurement fill."""
    return [replace(choice, n_ubatch=size) for size in UBATCHES if size <= effort.chunk or size == choice.n_ubatch]


def _effort(model: ModelHandle, plan: Plan) -> Effort:
    """How much to measure, so that one measurement takes a second or two; by a first try that warms up, too."""
    trained = read_header(plan.path).context_length or DEPTH
    depth = min(DEPTH, max(_SMALLEST_CHUNK, trained - 2 * _MOST_STEPS))
    first = replace(plan.options, kv_type=DEFAULT_KV_TYPE)
    measure(model, first, Effort(_SMALLEST_CHUNK, 1, 0))  # the weights come from the disk
    speed = measure(model, first, Effort(_SMALLEST_CHUNK, _FEWEST_STEPS, 0))
    chunk = _SMALLEST_CHUNK
    while chunk < min(speed.prefill[0] * _CHUNK_SECONDS, max(UBATCHES), depth // 2):
        chunk *= 2
    steps = min(max(int(speed.decode[0] * _STEPS_SECONDS), _FEWEST_STEPS), _MOST_STEPS)
    return Effort(chunk, steps, depth)
