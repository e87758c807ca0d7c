"""Bounds of numbers: what is written is inside, and all that is inside can be written."""

from __future__ import annotations

import random
import re
from decimal import Decimal

import pytest

from localllm.runtime.grammar.numbers import Bounds, decimals, integers


def _matcher(expression: str | None) -> re.Pattern[str]:
    """The expression as a regular expression: of GBNF these use texts, classes, groups and counts only."""
    assert expression is not None
    return re.compile(re.sub(r'"([^"]*)"| +', lambda found: re.escape(found[1]) if found[1] else "", expression))


def _bounds(low: str | None, high: str | None, *, low_open: bool = False, high_open: bool = False) -> Bounds:
    return Bounds(low and Decimal(low), high and Decimal(high), low_open, high_open)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(30))
def test_integers(seed: int) -> None:
    chance = random.Random(seed)
    low, high = sorted(chance.randint(-1200, 1200) for _ in range(2))
    low_open, high_open = high - low > 2 and chance.random() < 0.5, high - low > 2 and chance.random() < 0.5
    bounds = Bounds(Decimal(low), Decimal(high), low_open, high_open)
    matches = _matcher(integers(bounds)).fullmatch
    for number in range(-1300, 1300):
        inside = low + low_open <= number <= high - high_open
        assert bool(matches(str(number))) == inside, (number, bounds)
    assert not matches("-0")
    assert not matches("007")


@pytest.mark.parametrize(
    ("low", "high", "good", "bad"),
    [
        ("5", None, "5 9 10 99 1234567", "4 0 -5 05"),
        (None, "-5", "-5 -6 -100", "-4 0 5"),
        (None, "99", "99 0 -1 -123456", "100 999"),
        ("0.5", "2.5", "1 2", "0 3"),
        (None, None, "0 -3 12", "00 1.5"),
    ],
)
def test_integers_with_one_bound(low: str | None, high: str | None, good: str, bad: str) -> None:
    matches = _matcher(integers(_bounds(low, high))).fullmatch
    assert all(map(matches, good.split()))
    assert not any(map(matches, bad.split()))


@pytest.mark.parametrize("seed", range(60))
def test_decimals_are_inside_and_what_is_inside_can_be_written(seed: int) -> None:
    chance = random.Random(seed)
    places = chance.choice([0, 1, 2, 3])
    low, high = sorted(Decimal(chance.randint(-3000, 3000)).scaleb(-places) for _ in range(2))
    if chance.random() < 0.3:
        high = low + Decimal(chance.randint(1, 5)).scaleb(-places)
    bounds = Bounds(low, high, chance.random() < 0.5, chance.random() < 0.5)
    found = decimals(bounds)
    if found is None:
        assert low == high
        return
    matches = _matcher(found).fullmatch
    for _ in range(800):
        digits = chance.choice([0, 1, 2, 3, 4])
        near = chance.choice([low, high, (low + high) / 2])
        number = (near + Decimal(chance.randint(-300, 300)).scaleb(-digits)).quantize(Decimal(1).scaleb(-digits))
        text = format(number, "f")
        value = Decimal(text)
        inside = (low < value or (value == low and not bounds.low_open)) and (
            value < high or (value == high and not bounds.high_open)
        )
        if matches(text):
            assert inside, (text, bounds)
        elif inside and value != 0:
            # Only zeros at the end may be too much.
            assert matches(format(value.normalize(), "f")), (text, bounds)


@pytest.mark.parametrize(
    ("bounds", "good", "bad"),
    [
        (_bounds("0", "1", low_open=True), "0.5 1 0.001 1.0", "0 0.0 1.1 -0.5 -0"),
        (_bounds("0", None), "0 0.5 12.75 100", "-1 -0.1 1e5"),
        (_bounds(None, "0", high_open=True), "-0.5 -3", "0 -0 -0.0 1"),
        (_bounds("-1.5", "1.5"), "-1.5 0 1.5 -0.3 1.49", "1.51 -1.6 2"),
        (_bounds("0.25", "0.26"), "0.25 0.255 0.26", "0.2 0.3 0.261 0"),
        (_bounds(None, None), "-1.5e+10 3 0.1", "01 1. .5 e5"),
    ],
)
def test_decimals_by_hand(bounds: Bounds, good: str, bad: str) -> None:
    matches = _matcher(decimals(bounds)).fullmatch
    assert all(map(matches, good.split())), [text for text in good.split() if not matches(text)]
    assert not any(map(matches, bad.split())), [text for text in bad.split() if matches(text)]


@pytest.mark.parametrize("bounds", [_bounds("3", "2"), _bounds("1", "1", low_open=True), _bounds("2.5", "2.4")])
def test_nothing_between(bounds: Bounds) -> None:
    assert decimals(bounds) is None
    assert integers(bounds) is None


def test_no_integer_between_fractions() -> None:
    assert integers(_bounds("1.2", "1.8")) is None
