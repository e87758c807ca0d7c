"""The table of `tools/bench_runtime.py`: medians of ratios, goals met and missed, turns that change places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runtime_bench import quiet
from runtime_bench.result import Result, column, in_turns, markdown
from runtime_bench.texts import prompt_of

from localllm.native.vocab import open_vocab

FAST = Result("decode", "`llama-bench`", "t/s", (97.0, 99.0, 1.0), (100.0, 50.0, 101.0), 0.98)
SLOW = Result("first token", "`llama-server`", "ms", (1300.0,), (1000.0,), 1.0, faster_is_more=False)


def test_the_ratio_is_that_of_a_round_in_the_middle_and_has_a_direction() -> None:
    assert FAST.ratio == 0.97
    assert not FAST.met
    # The host slowed down in the second round.
    assert Result("decode", "x", "t/s", (100.0, 60.0, 61.0), (100.0, 60.0, 100.0), 1.0).ratio == 1.0
    assert SLOW.ratio == 1.3
    assert not SLOW.met
    assert Result("first token", "x", "ms", (999.0,), (1000.0,), 1.0, faster_is_more=False).met


def test_the_table_says_what_was_missed() -> None:
    _, _, fast, slow = markdown([FAST, SLOW]).splitlines()
    assert "| 97.0 t/s (1.0–99.0) | 100.0 t/s (50.0–101.0) | 0.970 | ≥ 0.98 | **missed** |" in fast
    assert "| 1,300 ms (1,300–1,300) | 1,000 ms (1,000–1,000) | 1.300 | ≤ 1 | **missed** |" in slow


def test_sides_take_turns_and_none_is_always_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "TRIES", 1)
    monkeypatch.setattr(quiet, "WAIT_SECONDS", 0)
    order: list[str] = []

    def side(name: str, value: float) -> tuple[float, ...]:
        order.append(name)
        return value, len(order)

    found = in_turns(3, lambda: side("a", 1), lambda: side("b", 2))
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert column(found[0], 0) == (1, 1, 1)
    assert column(found[1], 1) == (2, 3, 6)


@pytest.mark.slow
def test_a_prompt_has_exactly_the_tokens(smollm2: Path) -> None:
    with open_vocab(smollm2) as vocab:
        assert len(vocab.tokenize_prompt(prompt_of(smollm2, 77))) == 77


def test_what_was_disturbed_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "wait_for_quiet", lambda: None)
    others = iter([1.0, 0.5, 0.0, 1.0])
    monkeypatch.setattr(quiet, "watched", lambda measure: (measure(), next(others)))
    made = iter("abcd")
    assert quiet.undisturbed(lambda: next(made)) == "c"


@pytest.mark.slow
def test_our_own_work_and_that_of_our_children_disturbs_nobody() -> None:
    def work() -> None:
        subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
        sum(range(10**7))

    before = quiet._our_seconds()
    quiet.watched(work)
    assert quiet._our_seconds() > before
