"""Numbers as people read them."""

from __future__ import annotations

import time

import pytest

from localllm.tui.amounts import bar, day, rate, seconds, size, tokens


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (92 * 1024**2 + 1024 * 100, "92.1 MiB"),
        (1024**3, "1.00 GiB"),
        (139 * 1024**3, "139.0 GiB"),
        (3 * 1024**5, "3072.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [(0.0, "0.00 s"), (0.123, "0.12 s"), (3.44, "3.4 s"), (59.9, "59.9 s"), (65.2, "1 min 05 s")],
)
def test_seconds(duration: float, text: str) -> None:
    assert seconds(duration) == text


def test_rates_and_counts() -> None:
    assert rate(34.06) == "34.1 tok/s"
    assert rate(812.3) == "812 tok/s"
    assert tokens(8192) == "8,192"


def test_day_is_a_time_today_and_a_date_before() -> None:
    now = time.mktime((2026, 3, 14, 15, 9, 0, 0, 0, -1))
    assert day(now - 3600, now) == "14:09"
    assert day(now - 40 * 86400, now) == "02 Feb"
    assert day(now - 400 * 86400, now) == "2025-02-07"
    assert day(1e300, now) == "9999-12-31"
    assert day(-1e300, now)


@pytest.mark.parametrize(
    ("part", "whole", "filled"),
    [(0, 10, 0), (5, 10, 4), (10, 10, 8), (99, 10, 8), (0.01, 10, 1), (1, 0, 0), (-1, 10, 0)],
)
def test_bar(part: float, whole: float, filled: int) -> None:
    assert bar(part, whole, 8) == ("━" * filled, "─" * (8 - filled))
