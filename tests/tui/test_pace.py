"""How often a reply that grows is drawn."""

from __future__ import annotations

import itertools

import pytest

from localllm.tui.pace import LONGEST_S, SHARE, TICK_S, Pace


def frames(cost: float, seconds: float = 60) -> list[float]:
    """When frames are drawn that cost so many seconds of processor each."""
    pace, spent, drawn = Pace(), 0.0, []
    for tick in range(round(seconds / TICK_S)):
        if pace.due(tick * TICK_S, spent):
            spent += cost
            drawn.append(tick * TICK_S)
    return drawn


def test_cheap_frames_are_drawn_at_every_tick() -> None:
    assert len(frames(0.001)) == 600


@pytest.mark.parametrize("cost", [0.003, 0.006, 0.009])
def test_frames_take_a_small_part_of_the_time(cost: float) -> None:
    drawn = frames(cost)
    assert (len(drawn) - 1) * cost <= drawn[-1] / SHARE
    assert all(later - earlier < LONGEST_S + TICK_S for earlier, later in itertools.pairwise(drawn))


def test_what_is_seen_never_gets_old() -> None:
    drawn = frames(0.3)
    assert max(later - earlier for earlier, later in itertools.pairwise(drawn)) == pytest.approx(LONGEST_S, abs=TICK_S)


def test_the_thread_and_the_clock_count_by_default() -> None:
    pace = Pace()
    assert pace.due()
