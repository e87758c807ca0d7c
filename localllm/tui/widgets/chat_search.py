"""Where the person says what to look for in all chats.

Knows nothing of where it is looked for.
"""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widgets import Input

from localllm.tui.messages import ChatsLeft, ChatsLeftDownward, SearchChanged


class ChatSearch(Input):
    """Each letter searches; Enter and Down go to what was found, Esc ends the search, and then the visit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "to_list", "To the chats"),
        Binding("enter", "to_list", show=False),
        Binding("escape", "clear_or_leave", "Back"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, placeholder="Search", compact=True)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(SearchChanged(self.value))

    def action_to_list(self) -> None:
        """Go to the chats below."""
        self.post_message(ChatsLeftDownward())

    def action_clear_or_leave(self) -> None:
        """Search nothing, or go back to writing."""
        if self.value:
            self.clear()
        else:
            self.post_message(ChatsLeft())
