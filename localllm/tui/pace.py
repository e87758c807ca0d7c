"""How often a reply that grows is drawn: as often as is smooth, and as seldom as leaves the model its speed.

Where every core computes, each moment that drawing takes is one that the model waits, and so is each time that a thread
of the app wakes. A frame costs most after the widgets are changed, when Textual lays out and writes; so the processor
time of the whole thread counts.
"""

from __future__ import annotations

import time

TICK_S = 0.1
"""Ten frames a second are drawn at most."""

SHARE = 50
"""Drawing takes at most one part in this many of the time,"""

LONGEST_S = 0.4
"""but what is on the screen is never older than this."""

GATHER_S = 0.2
"""What the model says within this comes from the engine at once."""


class Pace:
    """For the thread that draws: called at each frame, it says when the next is due, by what the one before cost."""

    def __init__(self) -> None:
        self._spent = float("inf")

    def pause(self, spent: float | None = None) -> float:
        """Seconds until the next frame. `spent` are those of the processor that this thread had; by default the
        clock's own."""
        spent = time.thread_time() if spent is None else spent
        cost, self._spent = max(0.0, spent - self._spent), spent
        return min(max(SHARE * cost, TICK_S), LONGEST_S)
