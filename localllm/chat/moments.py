"""Moments in seconds since 1970, of which a file may hold any and a calendar can say some."""

from __future__ import annotations

import time

FIRST = -62_135_510_400.0
"""The second day of the year 1 in UTC, which is in no time zone the year 0."""
LAST = 253_402_214_400.0
"""The last day of the year 9999 in UTC, which is in no time zone the year 10000."""


def is_moment(seconds: float) -> bool:
    """Whether a calendar can say it."""
    return FIRST <= seconds <= LAST


def local(seconds: float) -> time.struct_time:
    """The time here; the nearest that a calendar can say, where an older localllm kept one that it cannot."""
    return time.localtime(min(max(seconds, FIRST), LAST))
