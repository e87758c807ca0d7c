"""Which row of a transcript belongs to which entry, when the heights of most entries are only guessed.

Pure arithmetic: knows nothing of what the entries are.
"""

from __future__ import annotations

from bisect import bisect_right


class Rows:
    """Heights stacked on each other. `total` is the number of rows of all."""

    def __init__(self) -> None:
        self._tops: list[int] = []
        self.total = 0

    def __len__(self) -> int:
        return len(self._tops)

    def reset(self, heights: list[int]) -> None:
        """Begin again with these heights."""
        self._tops.clear()
        self.total = 0
        for height in heights:
            self.append(height)

    def append(self, height: int) -> None:
        """Put an entry of `height` rows at the end."""
        self._tops.append(self.total)
        self.total += height

    def pop(self) -> None:
        """Take the last entry away."""
        self.total = self._tops.pop()

    def top(self, index: int) -> int:
        """The first row of an entry."""
        return self._tops[index]

    def height(self, index: int) -> int:
        """How many rows an entry has."""
        below = self._tops[index + 1] if index + 1 < len(self._tops) else self.total
        return below - self._tops[index]

    def resize(self, index: int, height: int) -> int:
        """Give an entry another height. Returns by how many rows all below it moved."""
        moved = height - self.height(index)
        if moved:
            for below in range(index + 1, len(self._tops)):
                self._tops[below] += moved
            self.total += moved
        return moved

    def at(self, row: int) -> int:
        """The entry that holds `row`, the nearest one for a row outside.

        Raises:
            IndexError: there are no entries.
        """
        if not self._tops:
            raise IndexError(row)
        return max(0, bisect_right(self._tops, row) - 1)
