"""The things a transcript is made of, each able to draw itself as strips at a width.

An entry keeps what it drew. A reply that grows draws only its open tail again. Knows nothing of scrolling, and of the
conversation only the words.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from localllm.tui.look import Look
from localllm.tui.markdown import Markdown
from localllm.tui.wrapping import CONSOLE, packed, printable, wrapped

MARGIN = 2
"""Columns left of the text: a bar for what the person said, space for the model's."""

MEASURE = 100
"""Lines of text are no longer than this many columns: longer ones are hard to read."""


GAP = " · "
"""Between the parts of a note; lines break there."""


@dataclass(frozen=True)
class Page:
    """What entries are drawn on: `width` columns with text in `measure` of them, after `left` and the margin."""

    look: Look
    width: int
    left: int
    measure: int

    @classmethod
    def of_width(cls, look: Look, width: int) -> Page:
        """A page whose text is centred if it is wider than the longest line we want."""
        measure = max(8, min(MEASURE, width - MARGIN - 2))
        return cls(look, width, max(0, (width - measure - MARGIN) // 2) if measure == MEASURE else 0, measure)

    def strip(self, line: Text, bar: str = "", bar_style: Style | None = None, fill: Style | None = None) -> Strip:
        """A whole row: the left edge, the margin with its bar, the line, and the rest of the row."""
        base = self.look.base
        inside = base if fill is None else base + fill
        segments = [Segment(" " * self.left, base)]
        segments.append(Segment(bar.ljust(MARGIN), inside if bar_style is None else inside + bar_style))
        # Rich leaves a line's own style out of its segments where nothing in the line is styled.
        plain = inside + line.style if isinstance(line.style, Style) else inside
        segments.extend(
            Segment(text, plain if style is None else plain + style) for text, style, _ in line.render(CONSOLE) if text
        )
        used = self.left + MARGIN + line.cell_len
        if fill is not None:
            segments.append(Segment(" " * (self.left + MARGIN + self.measure - used), inside))
            used = max(used, self.left + MARGIN + self.measure)
        segments.append(Segment(" " * (self.width - used), base))
        return Strip([segment for segment in segments if segment.text], max(used, self.width)).crop(0, self.width)


class Entry:
    """One entry. Subclasses draw; this keeps what was drawn on the last page."""

    def __init__(self) -> None:
        self._page: Page | None = None
        self._strips: list[Strip] = []

    def strips(self, page: Page) -> list[Strip]:
        """The rows of the entry on `page`, with an empty one at the end."""
        if self._page is not page:
            self._page = page
            self._strips = [*self._draw(page), page.strip(Text())]
        return self._strips

    def is_drawn(self, page: Page) -> bool:
        """Whether `strips(page)` costs nothing."""
        return self._page is page

    def guess_height(self, page: Page) -> int:
        """How many rows it will have, roughly, without drawing it."""
        text = self.copied_text()
        return 2 + text.count("\n") + len(text) // page.measure

    def copied_text(self) -> str:
        """What the entry says, as text."""
        raise NotImplementedError

    def _draw(self, page: Page) -> list[Strip]:
        raise NotImplementedError


class UserEntry(Entry):
    """What the person said, word for word: what was typed is not Markdown unless the person says so."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = printable(text)

    def copied_text(self) -> str:
        """The message."""
        return self._text

    def _draw(self, page: Page) -> list[Strip]:
        look = page.look
        lines = wrapped(Text(self._text), page.measure - 1)
        return [page.strip(line, "▌", look.user_bar, look.user) for line in lines]


class ReplyEntry(Entry):
    """What the model says, as Markdown, with a note below it: what it waits for, how it ended, what it cost."""

    def __init__(self, text: str = "", note: str = "", *, alarming: bool = False) -> None:
        super().__init__()
        self._text = printable(text)
        self._note = note
        self._alarming = alarming
        self._markdown: Markdown | None = None

    def copied_text(self) -> str:
        """The reply so far, as Markdown."""
        return self._text

    @property
    def note(self) -> str:
        """The line below the reply."""
        return self._note

    def grow(self, text: str) -> None:
        """Add `text` at the end."""
        self._text += printable(text)

    def annotate(self, note: str, *, alarming: bool = False) -> None:
        """Put `note` below the reply; `alarming` when it ended before its time."""
        self._note = note
        self._alarming = alarming

    def redraw(self) -> int:
        """Draw again what changed since the last time. Returns the first row that may differ."""
        page, markdown = self._page, self._markdown
        if page is None or markdown is None:
            return 0
        first = markdown.update(self._text)
        self._strips[first:] = [*map(page.strip, markdown.lines[first:]), *self._below(page), page.strip(Text())]
        return first

    def _draw(self, page: Page) -> list[Strip]:
        self._markdown = Markdown(page.look, page.measure)
        self._markdown.update(self._text)
        return [*map(page.strip, self._markdown.lines), *self._below(page)]

    def _below(self, page: Page) -> list[Strip]:
        if not self._note:
            return []
        style = page.look.warning if self._alarming else page.look.muted
        lines = packed(self._note.split(GAP), GAP, page.measure)
        return [page.strip(part) for line in lines for part in wrapped(Text(line, style), page.measure)]


class NoticeEntry(Entry):
    """Something the app has to say: what went wrong, and what to do next; or, not `alarming`, what was asked for."""

    def __init__(self, message: str, hint: str = "", *, alarming: bool = True) -> None:
        super().__init__()
        self._alarming = alarming
        self._message = printable(message)
        self._hint = printable(hint)

    def copied_text(self) -> str:
        """The message and the hint."""
        return f"{self._message}\n{self._hint}" if self._hint else self._message

    def _draw(self, page: Page) -> list[Strip]:
        look = page.look
        lines = wrapped(Text(self._message, look.error if self._alarming else look.subheading), page.measure)
        if self._hint:
            lines += wrapped(Text(self._hint), page.measure)
        return [page.strip(line, "▌", look.error_bar if self._alarming else look.quote) for line in lines]
