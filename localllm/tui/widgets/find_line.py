"""Where the person says what to find in the conversation, and sees how often it is there.

Knows nothing of where it is looked for.
"""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Static

from localllm.tui.amounts import tokens
from localllm.tui.messages import FindChanged, FindClosed, FindMoved, Found


class FindLine(Horizontal):
    """Enter and Up go to the match before, Down to the one after, Esc ends it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,up", "move(-1)", "Before", priority=True),
        Binding("shift+enter,down", "move(1)", "After", priority=True),
        Binding("escape", "close", "Back", priority=True),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._input = Input(placeholder="Find in this chat", compact=True)
        self._count = Static("", id="found")
        self.display = False

    def compose(self) -> ComposeResult:
        """Textual's."""
        yield self._input
        yield self._count

    def open(self, text: str = "") -> None:
        """Look for `text`, or for what was looked for last, which goes with the first letter that is written."""
        self.display = True
        if text:
            self._input.value = text
        self.screen.set_focus(self._input)  # at once: `focus` would be carried out behind the keys that wait
        self._input.select_all()
        self._look()

    def show(self, found: Found) -> None:
        """Say how many there are."""
        if not self._input.value.strip():
            self._count.update("")
        elif not found.count:
            self._count.update("not found" if found.over else "searching…")
        else:
            self._count.update(f"{tokens(found.place)} / {tokens(found.count)}{'' if found.over else '…'}")

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._look()

    def _look(self) -> None:
        if self.display:
            self.post_message(FindChanged(self._input.value))

    def action_move(self, step: int) -> None:
        """Go to another match."""
        self.post_message(FindMoved(step))

    def action_close(self) -> None:
        """End the search."""
        self.display = False
        self.post_message(FindClosed())
