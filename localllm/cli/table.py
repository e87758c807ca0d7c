"""Tables of text, and the numbers in them."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection, Sequence

_LEAST = 16
"""Characters of a column that is cut."""


def lines(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """The rows with their columns under each other; those numbered in `right` end under each other.

    What a terminal would obey is replaced: names of files and what stands in them may be anything.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    ]
    return ["  ".join(cells).rstrip() for cells in aligned]


def fitting(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    *,
    spare: Sequence[int] = (),
    cut: bool = False,
    width: int | None = None,
) -> list[str]:
    """As `lines`, in lines no wider than `width`, by default the terminal's; as wide as they are where stdout is none.

    The columns numbered in `spare` are left out, in this order, until the others fit. With `cut` the last column is
    shortened, before any is left out for it.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    shown = list(range(len(rows[0])))
    last = shown[-1] if cut else None
    for column in (None, *spare):
        shown = [index for index in shown if index != column]
        found = lines([[row[index] for index in shown] for row in rows], {shown.index(i) for i in right if i in shown})
        excess = [max(len(row[last]) - _LEAST, 0) if last in shown else 0 for row in rows]
        if all(len(line) - over <= width for line, over in zip(found, excess, strict=True)):
            break
    return [line if last not in shown or len(line) <= width else f"{line[: width - 1]}…" for line in found]


def printable(text: str) -> str:
    """The text in one line that a terminal shows and does not obey."""
    return (
        text
        if text.isprintable()
        else "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text)
    )


def count(number: int) -> str:
    """A count of weights, as it is in the names of models: `135M`, `7.2B`; `?` for 0."""
    if not number:
        return "?"
    return f"{number / 1e9:.1f}B" if number >= 1e9 else f"{number / 1e6:.0f}M"


def size(number: int) -> str:
    """Bytes on a disk, in MB or GB of powers of ten, as downloads and disks count them."""
    return f"{number / 1e9:,.2f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


def since(moment: float, now: float | None = None) -> str:
    """How long ago a moment was, given in seconds since 1970; `-` for 0, the day when it is long ago."""
    if not moment:
        return "-"
    seconds = max(0.0, (time.time() if now is None else now) - moment)
    for limit, unit, name in ((90, 1, ""), (5400, 60, "min"), (36 * 3600, 3600, "h"), (45 * 86400, 86400, "days")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name} ago" if name else "now"
    return time.strftime("%Y-%m-%d", time.localtime(moment))
