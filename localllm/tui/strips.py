"""What is painted on the rows of a transcript, and where on them a click leads. Pure functions on strips and text."""

from __future__ import annotations

import re

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

VERSIONS = re.compile(r"\s*(‹\d+/\d+›)")


def step_at(line: str, column: int) -> int:
    """Where a click on `‹2/3›` at the beginning of a line leads: -1 on its first half, 1 on the other, 0 beside it."""
    found = VERSIONS.match(line)
    if found is None or not found.start(1) <= column < found.end(1):
        return 0
    return -1 if column < (found.start(1) + found.end(1)) / 2 else 1


def painted(strip: Strip, start: int, end: int, style: Style) -> Strip:
    """`strip` with `style` on the characters from `start` to before `end`; -1 is the last."""
    segments: list[Segment] = []
    at = 0
    for text, old, control in strip:
        low = min(max(start - at, 0), len(text))
        high = len(text) if end == -1 else min(max(end - at, low), len(text))
        for part, paint in ((text[:low], False), (text[low:high], True), (text[high:], False)):
            if part:
                segments.append(Segment(part, (old or Style()) + style if paint else old, control))
        at += len(text)
    return Strip(segments, strip.cell_length)


def marked(strip: Strip, at: int, mark: Segment) -> Strip:
    """`strip` with `mark`, one column wide, in the column `at`."""
    return Strip.join([strip.crop(0, at), Strip([mark]), strip.crop(at + 1)])
