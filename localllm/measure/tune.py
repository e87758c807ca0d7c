"""The settings with which a model is fastest on this machine, found by measuring them.

What gains most comes first: flash attention with the types of the KV cache, then the size of a ubatch, which may be
another one with flash attention than without, then threads. The time that is left goes to what is close to the best.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from localllm.gguf_file import read_header, read_parts
from localllm.measure.bench import READS, WRITES, Bench, Row
from localllm.measure.speed import Effort, measure_prefill
from localllm.native import machine
from localllm.native.handles import ModelHandle
from localllm.runtime import tuned
from localllm.runtime.loading import open_weights
from localllm.runtime.options import DEFAULT_KV_TYPE, Options
from localllm.runtime.plan import check_fits, make_plan
from localllm.runtime.tuned import Choice
from localllm.runtime.types import Plan

SECONDS = 45.0
"""How long it measures; what is under way then is finished."""

NEAR, DEPTH = 512, 2048
"""Around these tokens it is measured, if the model was trained with so many."""

ATTENTION = ((True, "f16"), (False, "f16"), (False, "q8_0/f16"), (True, "q8_0"))
"""Flash attention and types of K and V. Without flash attention V cannot be quantized."""

UBATCHES = (64, 128, 256, 512, 1024)

FIRST_UBATCH = 128
"""With which attention is compared: read soon, even deep in a context where attention is slow."""

UBATCH_GAINS = 1.25
"""How many times faster another ubatch may make a turn: where attention is slower by more, none is looked for."""

DRAFTING_PAYS = 3.0
"""How many times as long as one token a step of `speed.CHECKED` may take, for guesses from text that repeats to pay:
they do then when somewhat more than half of them are right, and where text does not repeat none are made."""

_ROUNDS = 3
_RATE_SECONDS, _UBATCH_SECONDS = 0.25, 4.0
_SMALLEST = 64


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
        effort = _effort(model, plan)
        bench = Bench(model, plan, _untuned(plan), effort, started + seconds, on_row or (lambda _: None))
        _search(bench)
    best = bench.best()
    choice = replace(best, draft="ngram" if bench.row(best).speed.check <= DRAFTING_PAYS else "")
    took = time.monotonic() - started
    return Tuning(path, choice, bench.before, bench.rows(), effort, took, tuple(bench.notes))


def store(found: Tuning, *, gpu_layers: int | None = None) -> Path:
    """Let loads of the model with the same `gpu_layers` use what was found, from now on. Returns the file.

    Raises:
        BadOutput: it cannot be written.
    """
    return tuned.store(found.path, Options(gpu_layers=gpu_layers), found.choice, found.as_json())


def _untuned(plan: Plan) -> Choice:
    options = plan.options
    return Choice(options.threads, options.flash_attention is not False, options.kv_type, options.n_ubatch)


def _effort(model: ModelHandle, plan: Plan) -> Effort:
    """How much to measure; by a first try that warms up, too: the weights come from the disk."""
    first = replace(plan.options, kv_type=DEFAULT_KV_TYPE)
    _, rate = measure_prefill(model, first, Effort(0, _SMALLEST, _SMALLEST // 2, _SMALLEST))
    trained = read_header(plan.path).context_length or DEPTH
    depth = min(DEPTH, max(_SMALLEST, trained - _SMALLEST))
    near = min(NEAR, max(_SMALLEST // 2, depth // 4))
    most = min(2 * near, int(rate * _UBATCH_SECONDS / 2))  # tokens, read near the start and deep in it
    largest = max((size for size in UBATCHES if size <= most), default=_SMALLEST)
    return Effort(_RATE_SECONDS, largest, near, depth)


def _search(bench: Bench) -> None:
    """Measure what may be best until nothing is left or the time is up."""
    bench.measure(bench.before)
    rounds = 1
    while not bench.over:
        choice = next(_unknown(bench), None)
        if choice is not None:
            bench.measure(choice)
        elif rounds < _ROUNDS:
            bench.repeat()
            rounds += 1
        else:
            break
    bench.notes += [f"Not measured, for lack of time: {choice}." for choice in dict.fromkeys(_unknown(bench))]
    if bench.effort.largest < bench.before.n_ubatch:
        bench.notes.append(
            f"Ubatches of more than {bench.effort.largest} tokens take too long to measure here: they count as these."
        )


def _unknown(bench: Bench) -> Iterator[Choice]:
    """What is next to be measured, by what is best now."""
    for step in (_attentions, _ubatches, _threads):
        yield from (choice for choice in step(bench) if not bench.knows(choice))


def _attentions(bench: Bench) -> list[Choice]:
    size = FIRST_UBATCH if FIRST_UBATCH in _sizes(bench) else bench.before.n_ubatch
    return [
        replace(bench.before, flash_attention=attention, kv_type=kv_type, n_ubatch=size)
        for attention, kv_type in ATTENTION
    ]


def _ubatches(bench: Bench) -> list[Choice]:
    """The next smaller and the next larger one than the best, with flash attention and without where that is close."""
    sizes, limit = _sizes(bench), UBATCH_GAINS * bench.cost(bench.best())
    choices: list[Choice] = []
    for attention in (True, False):
        same = [row.choice for row in bench.rows() if row.choice.flash_attention == attention]
        best = min(same, key=bench.cost, default=None)
        if best is not None and bench.cost(best) < limit:
            at = sizes.index(best.n_ubatch)
            choices += [replace(best, n_ubatch=size) for size in sizes[max(0, at - 1) : at + 2]]
    return sorted(choices, key=lambda choice: choice.flash_attention != bench.best().flash_attention)


def _threads(bench: Bench) -> list[Choice]:
    """Fewer threads, which may be enough to read the memory as fast as it can be, and all hyperthreads."""
    best, usual, limits = bench.best(), bench.before.threads, machine.limits()
    most = limits.allowed_cpus if limits.cpu_quota is None else min(limits.allowed_cpus, int(limits.cpu_quota))
    counts = dict.fromkeys((usual - 1, usual // 2, most))
    return [replace(best, threads=count) for count in counts if count >= 1]


def _sizes(bench: Bench) -> list[int]:
    """The ubatches that can be told apart: the usual one, and others of no more tokens than are read at once."""
    usual, largest = bench.before.n_ubatch, bench.effort.largest
    return sorted({usual, *(size for size in UBATCHES if size <= largest and (usual <= largest or size < largest))})
