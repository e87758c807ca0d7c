"""Asks for the title of a chat.

Knows nothing of which chat it is.
"""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class RenameScreen(ModalScreen[str | None]):
    """Enter takes the title, Esc leaves it as it was: None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back")]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Vertical(id="rename") as box:
            box.border_title = "Title"
            yield Input(self._title, compact=True)
            yield Static("Enter renames · empty is automatic again · Esc leaves it", classes="note")

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        self.dismiss(" ".join(event.value.split()))
