"""The things a transcript is made of, each able to draw itself as strips at a width.

An entry keeps what it drew. What the model says is in `reply_entry`. Knows nothing of scrolling, and of the
conversation only the words.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.strip import Strip

from localllm.chat.attachments import split
from localllm.counts import counted
from localllm.tui.look import Look
from localllm.tui.wrapping import CONSOLE, led_by, printable, wrapped

MARGIN = 2
"""Columns left of the text: a bar for what the person said, space for the model's."""

RIBBON_WIDTH = 1
"""Columns left of the margin, for marks of the transcript."""

MEASURE = 100
"""Lines of text are no longer than this many columns: longer ones are hard to read."""


FOLDED, UNFOLDED = "▸", "▾"

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
        measure = max(8, min(MEASURE, width - RIBBON_WIDTH - MARGIN - 2))
        left = (width - measure - MARGIN) // 2 if measure == MEASURE else 0
        return cls(look, width, max(RIBBON_WIDTH, left), measure)

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
    """One entry. Subclasses draw; this keeps what was drawn on the last page.

    `message` is the id of the message that it shows, empty for what is none.
    """

    def __init__(self, message: str = "") -> None:
        self.message = message
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

    @property
    def folds(self) -> bool:
        """Whether a part of it can be folded away."""
        return False

    def folds_at(self, row: int) -> bool:  # noqa: ARG002
        """Whether a click on this of its rows folds or unfolds."""
        return False

    def fold(self) -> None:
        """Fold what is unfolded, or unfold it."""
        self._page = None

    def _draw(self, page: Page) -> list[Strip]:
        raise NotImplementedError


def fold_line(page: Page, said: str, *, unfolded: bool) -> Text:
    """The line that stands for something that is folded, and above it when it is not."""
    line = Text(f"{UNFOLDED if unfolded else FOLDED} {said}", page.look.muted)
    line.truncate(page.measure, overflow="ellipsis")
    return line


class UserEntry(Entry):
    """What the person said, word for word: what was typed is not Markdown unless the person says so.

    Files that went with it are a line each, and unfold. The note says which of several versions it is.
    """

    def __init__(self, text: str, message: str = "", note: str = "") -> None:
        super().__init__(message)
        self._note = note
        files, said = split(text)
        self._files = [(printable(file.name), printable(file.text)) for file in files]
        self._said = printable(said)
        self._unfolded = False
        self._fold_rows: set[int] = set()

    def copied_text(self) -> str:
        """The message, without the files."""
        return self._said

    @property
    def folds(self) -> bool:
        """Whether files went with the message."""
        return bool(self._files)

    def folds_at(self, row: int) -> bool:
        """Whether the row names a file."""
        return row in self._fold_rows

    def fold(self) -> None:
        """Show what the files hold, or hide it."""
        super().fold()
        self._unfolded = not self._unfolded

    def _draw(self, page: Page) -> list[Strip]:
        look = page.look
        lines: list[Text] = []
        self._fold_rows.clear()
        for name, text in self._files:
            self._fold_rows.add(len(lines))
            count = text.count("\n") + 1
            lines.append(fold_line(page, f"{name} · {counted(count, 'line')}", unfolded=self._unfolded))
            if self._unfolded:
                lines += [led_by("  ", Style(), line) for line in wrapped(Text(text), page.measure - 3, fold=True)]
        if self._said or not lines:
            lines += wrapped(Text(self._said), page.measure - 1)
        strips = [page.strip(line, "▌", look.user_bar, look.user) for line in lines]
        return [*strips, page.strip(Text(self._note, look.muted))] if self._note else strips


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
