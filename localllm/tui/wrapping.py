"""Text into lines of a width in cells. Knows nothing of what the text means."""

from __future__ import annotations

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.style import Style
from rich.text import Text

from localllm.chat.printable import printable as printable

TAB = 4
CONSOLE = Console(width=80, color_system=None, legacy_windows=False)
"""Only measures, wraps and resolves styles; nothing is ever written to it."""


def wrapped(text: Text, width: int, *, fold: bool = False) -> list[Text]:
    """`text` in lines of at most `width` cells, broken at words, or with `fold` anywhere, which keeps every space."""
    width = max(2, width)
    if not fold:
        return list(text.wrap(CONSOLE, width, tab_size=TAB)) or [Text()]
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        line.expand_tabs(TAB)
        if cell_len(line.plain) <= width:
            lines.append(line)
            continue
        ends: list[int] = []
        for part in chop_cells(line.plain, width):
            ends.append((ends[-1] if ends else 0) + len(part))
        lines.extend(line.divide(ends[:-1]))
    return lines


def packed(parts: list[str], gap: str, width: int) -> list[str]:
    """`parts` with `gap` between them in lines of at most `width` cells where that is possible, none of them broken."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(lines[-1]) + cell_len(gap) + cell_len(part) <= width:
            lines[-1] += gap + part
        else:
            lines.append(part)
    return lines


def widest(text: Text) -> int:
    """The cells of the longest line of `text`."""
    return max((cell_len(line) for line in text.plain.split("\n")), default=0)


def joined(gap: Text, parts: list[Text]) -> Text:
    """`parts` in one line with `gap` between them."""
    line = Text()
    for index, part in enumerate(parts):
        if index:
            line.append_text(gap)
        line.append_text(part)
    return line


def led_by(mark: str, style: Style, line: Text) -> Text:
    """`line` after `mark`, whose style ends where the line begins."""
    return Text().append(mark, style).append_text(line)
