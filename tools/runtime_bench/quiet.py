"""Whether other programs ran while something was measured. Knows only processor times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")

DISTURBED = 0.06
"""Cores that others used on average, from which on a measurement is taken again."""

TRIES, WAIT_SECONDS, LOOK_SECONDS = 3, 20.0, 0.3


def undisturbed(measure: Callable[[], T]) -> T:
    """What `measure` returns when nothing else runs; after some tries, what it returned last."""
    for number in range(TRIES):
        wait_for_quiet()
        found, others = watched(measure)
        if others < DISTURBED or number == TRIES - 1:
            break
        print(f"others used {others:.2f} cores meanwhile: once more", file=sys.stderr)
    return found


def watched(measure: Callable[[], T]) -> tuple[T, float]:
    """What `measure` returns, and how many cores others used meanwhile on average."""
    started, all_before, ours_before = time.monotonic(), _all_seconds(), _our_seconds()
    found = measure()
    seconds = max(time.monotonic() - started, 1e-3)
    others = (_all_seconds() - all_before) - (_our_seconds() - ours_before)
    return found, others / seconds


def wait_for_quiet() -> None:
    """Wait until others use next to nothing for a moment, but not forever."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and watched(lambda: time.sleep(LOOK_SECONDS))[1] > DISTURBED:
        pass


def _all_seconds() -> float:
    """Seconds that all cores together did something."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0)


def _our_seconds() -> float:
    """Seconds of this process, of its children, and of theirs that have ended."""
    total, ourselves = 0.0, psutil.Process()
    for process in (ourselves, *ourselves.children(recursive=True)):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
