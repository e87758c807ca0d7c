"""A search through the entries of a transcript, and which match is shown.

Knows no widgets and draws nothing: it is given the rows of one entry after the other.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from localllm.tui.entries import Entry
from localllm.tui.finding import Match, Span, matches, may_hold, wanted


class Search:
    """The matches of `text`, entry by entry. `here` is the one that is shown: an entry's index, and the match in it."""

    def __init__(self) -> None:
        self.text = ""
        self.pending: list[int] = []
        self._pattern: re.Pattern[str] | None = None
        self._found: dict[int, list[Match]] = {}
        self._order: list[int] = []
        self._here: tuple[int, int] | None = None

    @property
    def active(self) -> bool:
        """Whether something is looked for."""
        return self._pattern is not None

    def begin(self, text: str, entries: Sequence[Entry]) -> None:
        """Look for `text` in `entries`, from the last to the first; none of it ends the search."""
        self.text, self._pattern = text, wanted(text)
        self.pending = list(range(len(entries))) if self.active else []
        self._found.clear()
        self._order.clear()
        self._here = None

    def next_entry(self) -> int | None:
        """The entry to look at next."""
        return self.pending[-1] if self.pending else None

    def may_be_in(self, entry: Entry) -> bool:
        """Whether it is worth drawing an entry."""
        return may_hold(entry.copied_text(), self.text)

    def put(self, index: int, rows: Sequence[str], margin: int) -> None:
        """The rows of an entry as they are now; none where nothing can be found."""
        if self.pending and self.pending[-1] == index:
            self.pending.pop()
        found = matches(rows, self._pattern, margin) if self._pattern is not None else []
        if bool(found) != (index in self._found):
            at = bisect_left(self._order, index)
            self._order[at : at + (not found)] = [index] if found else []
        if found:
            self._found[index] = found
        else:
            self._found.pop(index, None)
        if self._here is None and found:
            self._here = (index, len(found) - 1)
        elif self._here is not None and self._here[0] == index:
            self._here = (index, min(self._here[1], len(found) - 1)) if found else None

    @property
    def count(self) -> int:
        """How many matches there are, as far as was looked."""
        return sum(map(len, self._found.values()))

    @property
    def place(self) -> int:
        """Which of them is shown, from 1; 0 for none."""
        if self._here is None:
            return 0
        index, number = self._here
        return sum(len(self._found[at]) for at in self._order if at < index) + number + 1

    @property
    def here(self) -> tuple[int, Match] | None:
        """The match that is shown."""
        return (self._here[0], self._found[self._here[0]][self._here[1]]) if self._here is not None else None

    def move(self, step: int) -> bool:
        """Show the match after, or with -1 before; it goes round. Whether there is one."""
        if self._here is None:
            return False
        index, number = self._here
        if 0 <= number + step < len(self._found[index]):
            self._here = (index, number + step)
        else:
            other = self._order[(self._order.index(index) + step) % len(self._order)]
            self._here = (other, 0 if step > 0 else len(self._found[other]) - 1)
        return True

    def on_row(self, index: int, row: int) -> Iterator[tuple[Span, bool]]:
        """What was found on a row of an entry, and whether it is the match that is shown."""
        for number, match in enumerate(self._found.get(index, ())):
            for span in match:
                if span.row == row:
                    yield span, (index, number) == self._here
