"""Where a text stands on the rows of an entry, also across the end of a row.

Pure functions on text. Knows nothing of how rows look.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Span:
    """Characters `begin` to before `end` of a row."""

    row: int
    begin: int
    end: int


Match = tuple[Span, ...]
"""One place where the text stands: a span on each row that it runs over."""


def wanted(text: str) -> re.Pattern[str] | None:
    """What is looked for: `text` in any case, with any space between its words; None for no words."""
    words = text.split()
    return re.compile(r"\s+".join(map(re.escape, words)), re.IGNORECASE) if words else None


def may_hold(source: str, text: str) -> bool:
    """Whether Markdown `source` can show `text`, cheaply: marks and spaces do not count. Wrong only about entities."""
    return _letters(text) in _letters(source)


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()


def matches(rows: Sequence[str], pattern: re.Pattern[str], margin: int) -> list[Match]:
    """All places on `rows`, whose first `margin` characters do not count, first to last."""
    parts = [row[margin:].rstrip() for row in rows]
    starts = [0, *accumulate(len(part) + 1 for part in parts)][: len(parts)]
    found: list[Match] = []
    for match in pattern.finditer("\n".join(parts)):
        spans = []
        for at in range(bisect_right(starts, match.start()) - 1, bisect_left(starts, match.end())):
            begin, end = max(match.start() - starts[at], 0), min(match.end() - starts[at], len(parts[at]))
            if begin < end:
                spans.append(Span(at, margin + begin, margin + end))
        found.append(tuple(spans))
    return found
