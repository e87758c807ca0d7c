"""What one row measured, and the table of all rows. Knows no programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime_bench.quiet import undisturbed


@dataclass(frozen=True)
class Result:
    """`ours` and `theirs` have one figure for each round, in `unit`. `goal` is for the median of
    ours / theirs of all rounds: a host that gives a virtual machine more or less from minute to minute moves both.

    With `faster_is_more` the ratio must be at least the goal, else at most.
    """

    what: str
    against: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    goal: float
    faster_is_more: bool = True

    @property
    def ratio(self) -> float:
        return statistics.median(mine / other for mine, other in zip(self.ours, self.theirs, strict=True))

    @property
    def met(self) -> bool:
        return self.ratio >= self.goal if self.faster_is_more else self.ratio <= self.goal

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "ratio": round(self.ratio, 4), "met": self.met}


def in_turns(rounds: int, *sides: Callable[[], tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """What each side measured in each round; A B, then B A, so that neither always comes first.

    What another program disturbed is measured again, once the machine is quiet; in the end it counts as it is.
    """
    found: list[list[tuple[float, ...]]] = [[] for _ in sides]
    for number in range(rounds):
        order = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
        for index in order:
            found[index].append(undisturbed(sides[index]))
    return found


def column(rounds: list[tuple[float, ...]], index: int) -> tuple[float, ...]:
    """One figure of all rounds."""
    return tuple(values[index] for values in rounds)


def markdown(results: Sequence[Result]) -> str:
    """A table for docs/experiments.md: medians, and (lowest–highest) of the rounds."""
    lines = ["| what | against | ours | theirs | ratio | goal | |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for result in results:
        sign, mark = ("≥" if result.faster_is_more else "≤"), ("met" if result.met else "**missed**")
        cells = [
            result.what,
            result.against,
            _figures(result.ours, result.unit),
            _figures(result.theirs, result.unit),
            f"{result.ratio:.3f}",
            f"{sign} {result.goal:g}",
            mark,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figures(values: Sequence[float], unit: str) -> str:
    middle = statistics.median(values)
    digits = 0 if middle >= 1000 else 1 if middle >= 10 else 3
    low, high = min(values), max(values)
    return f"{middle:,.{digits}f} {unit} ({low:,.{digits}f}–{high:,.{digits}f})"
