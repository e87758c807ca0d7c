"""How often a reply that grows is drawn: as often as is smooth, and as seldom as leaves the model its speed.

Where every core computes, each moment that drawing takes is one that the model waits. A frame costs most after the
widgets are changed, when Textual lays out and writes; so the processor time of the whole thread counts.
"""

from __future__ import annotations

import time

TICK_S = 0.1
"""How often it is asked whether to draw: ten frames a second at most."""

SHARE = 40
"""Drawing takes at most one part in this many of the time,"""

LONGEST_S = 0.4
"""but what is on the screen is never older than this."""


class Pace:
    """For the thread that draws; `due` says whether a frame is due, and counts from then on what it costs."""

    def __init__(self) -> None:
        self._began = self._spent = float("-inf")

    def due(self, now: float | None = None, spent: float | None = None) -> bool:
        """Whether to draw now. `now` are seconds of a clock that never goes back, `spent` those of the processor that
        this thread had; by default they are the clocks' own."""
        now = time.monotonic() if now is None else now
        spent = time.thread_time() if spent is None else spent
        if now - self._began < min(SHARE * (spent - self._spent), LONGEST_S):
            return False
        self._began, self._spent = now, spent
        return True
