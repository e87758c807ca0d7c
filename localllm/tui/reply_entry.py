"""What the model says, as an entry of the transcript: the thought, which folds, the answer as Markdown, a note below.

A reply that grows draws only its open tail again. Knows nothing of scrolling.
"""

from __future__ import annotations

from rich.text import Text
from textual.strip import Strip

from localllm.runtime.thinking import Parted, parted
from localllm.tui.entries import GAP, Entry, Page, fold_line
from localllm.tui.markdown import Markdown
from localllm.tui.wrapping import led_by, packed, printable, wrapped

THOUGHT_BAR = "▎ "


class ReplyEntry(Entry):
    """A reply. The note says what it waits for, how it ended, what it cost.

    `opened` is the marker inside of which the prompt let it begin, see `runtime.thinking`. A thought is unfolded while
    it grows, and folds when the answer begins, unless the person folded or unfolded it.
    """

    def __init__(
        self, text: str = "", note: str = "", *, alarming: bool = False, message: str = "", opened: str = ""
    ) -> None:
        super().__init__(message)
        self._text = printable(text)
        self._note = note
        self._alarming = alarming
        self._opened = opened
        self._growing = False
        self._unfolded: bool | None = None
        self._head_rows = 0
        self._drawn_as: tuple[bool, bool, bool] | None = None
        self._thought: Markdown | None = None
        self._answer: Markdown | None = None

    def copied_text(self) -> str:
        """The answer so far, as Markdown; the thought where there is no answer."""
        said = self._parted()
        return said.answer or said.thought or ""

    @property
    def note(self) -> str:
        """The line below the reply."""
        return self._note

    def begin(self, opened: str = "") -> None:
        """It grows from now on; `opened` is the marker that the prompt ends with, once the model is known."""
        self._growing = True
        self._opened = opened or self._opened

    def grow(self, text: str) -> None:
        """Add `text` at the end."""
        self._text += printable(text)

    def annotate(self, note: str, *, alarming: bool = False) -> None:
        """Put `note` below the reply; `alarming` when it ended before its time."""
        self._note = note
        self._alarming = alarming

    def end(self) -> None:
        """It grows no more: what was held back because it could have become a marker is text."""
        self._growing = False

    @property
    def folds(self) -> bool:
        """Whether there is a thought."""
        return bool(self._parted().thought)

    def folds_at(self, row: int) -> bool:
        """Whether the row is the one above the thought."""
        return row == 0 and self.folds

    def fold(self) -> None:
        """Fold or unfold the thought."""
        self._unfolded = not self._shows_thought(self._parted())
        super().fold()

    def _parted(self) -> Parted:
        return parted(self._text, opened=self._opened, growing=self._growing)

    def _shows_thought(self, said: Parted) -> bool:
        return not said.closed if self._unfolded is None else self._unfolded

    def redraw(self) -> int:
        """Draw again what changed since the last time. Returns the first row that may differ."""
        page, said = self._page, self._parted()
        if page is None:
            return 0
        thought, answer = self._thought, self._answer
        if self._manner(said) != self._drawn_as or answer is None:
            self._strips = [*self._draw(page), page.strip(Text())]
            return 0
        if thought is None or said.closed:
            at = answer.update(said.answer)
            first, rows = self._head_rows + at, answer.lines[at:]
        elif self._shows_thought(said):
            at = thought.update(said.thought or "")
            first, rows = 1 + at, [_quoted(line, page) for line in thought.lines[at:]]
        else:
            first, rows = 1, []
        self._strips[first:] = [*map(page.strip, rows), *self._below(page), page.strip(Text())]
        return first

    def _manner(self, said: Parted) -> tuple[bool, bool, bool]:
        """What decides how the rows are put together."""
        return bool(said.thought), said.closed, self._shows_thought(said)

    def _draw(self, page: Page) -> list[Strip]:
        said = self._parted()
        self._drawn_as = self._manner(said)
        self._thought = Markdown(page.look, page.measure - len(THOUGHT_BAR)) if said.thought else None
        head = self._head(page, self._thought, said) if self._thought is not None else []
        self._head_rows = len(head)
        self._answer = Markdown(page.look, page.measure)
        self._answer.update(said.answer)
        return [*map(page.strip, [*head, *self._answer.lines]), *self._below(page)]

    def _head(self, page: Page, thought: Markdown, said: Parted) -> list[Text]:
        """The rows of the thought: the line that folds it, its text, and an empty one before the answer."""
        unfolded = self._shows_thought(said)
        words = len((said.thought or "").split())
        name = f"Thought · {words:,} word{'s' if words != 1 else ''}" if said.closed else "Thinking…"
        rows = [fold_line(page, name, unfolded=unfolded)]
        if unfolded:
            thought.update(said.thought or "")
            rows += [_quoted(line, page) for line in thought.lines]
        return [*rows, Text()] if said.closed else rows

    def _below(self, page: Page) -> list[Strip]:
        if not self._note:
            return []
        style = page.look.warning if self._alarming else page.look.muted
        lines = packed(self._note.split(GAP), GAP, page.measure)
        return [page.strip(part) for line in lines for part in wrapped(Text(line, style), page.measure)]


def _quoted(line: Text, page: Page) -> Text:
    quiet = line.copy()
    quiet.stylize_before(page.look.muted)
    return led_by(THOUGHT_BAR, page.look.quote, quiet)
