"""How often a reply that grows is drawn."""

from __future__ import annotations

import pytest

from localllm.tui.pace import LONGEST_S, SHARE, TICK_S, Pace


def pauses(*costs: float) -> list[float]:
    """How long it waits after each of some frames that cost so many seconds of processor each."""
    pace, spent, waited = Pace(), 7.0, []
    for cost in costs:
        waited.append(pace.pause(spent))
        spent += cost
    return waited


def test_cheap_frames_are_drawn_ten_times_a_second() -> None:
    assert pauses(*[0.001] * 5) == [TICK_S] * 5


@pytest.mark.parametrize("cost", [0.003, 0.005, 0.007])
def test_frames_take_a_small_part_of_the_time(cost: float) -> None:
    assert pauses(*[cost] * 5)[1:] == pytest.approx([SHARE * cost] * 4)


def test_what_is_seen_never_gets_old() -> None:
    assert max(pauses(*[0.3] * 5)) == LONGEST_S


def test_one_dear_frame_does_not_slow_those_after_it() -> None:
    assert pauses(0.001, 0.3, 0.001, 0.001) == [TICK_S, TICK_S, LONGEST_S, TICK_S]


def test_the_thread_counts_by_default() -> None:
    pace = Pace()
    assert pace.pause() == TICK_S
    assert TICK_S <= pace.pause() <= LONGEST_S
