"""A summary while the model writes it, to be used or not. Knows nothing of what is summarised."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from localllm.tui.messages import SummaryEnded, SummaryGrew
from localllm.tui.wrapping import printable

BEING_WRITTEN = "the model is writing · Esc stops it and leaves all as it is"
DONE = "Enter sends this in place of the turns · Esc leaves all as it is"
EMPTY = "the model wrote nothing · Esc goes back"


class SummaryScreen(ModalScreen[str | None]):
    """The text as it grows; its result is the text, or None if it is not wanted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Leave it"),
        Binding("enter", "use", "Use it"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self._ended = False

    def compose(self) -> ComposeResult:
        """Textual's."""
        with VerticalScroll(id="summary") as page:
            page.border_title = "A summary"
            page.border_subtitle = BEING_WRITTEN
            yield Static(id="summary-text")

    @on(SummaryGrew)
    def _grew(self, event: SummaryGrew) -> None:
        self._text += event.text
        self.query_one(Static).update(Content(printable(self._text)))
        self.query_one(VerticalScroll).scroll_end(animate=False)

    @on(SummaryEnded)
    def _done(self) -> None:
        self._ended = True
        self.query_one(VerticalScroll).border_subtitle = DONE if self._text.strip() else EMPTY

    def action_use(self) -> None:
        """Take the summary, once it is written."""
        if self._ended and self._text.strip():
            self.dismiss(self._text.strip())
