"""The chats on disk, the latest first.

Knows titles and times; knows nothing of what is in a chat.
"""

from __future__ import annotations

import time
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localllm.chat.store import ChatEntry
from localllm.tui.amounts import day
from localllm.tui.messages import ChatChosen, ChatDropped, ChatsLeft
from localllm.tui.wrapping import printable


class ChatList(OptionList):
    """A list to pick from: Enter opens a chat, Delete takes it off the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("delete,backspace", "drop", "Delete"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = " Chats"
        self._chats: list[ChatEntry] = []
        self._open: str | None = None

    def show(self, chats: list[ChatEntry], open_id: str) -> None:
        """List `chats`; the one that is open is marked."""
        if (chats, open_id) == (self._chats, self._open):
            return
        kept = self.highlighted_option.id if self.highlighted_option else None
        self._chats, self._open = chats, open_id
        now = time.time()
        with self.prevent(OptionList.OptionHighlighted):
            self.set_options([Option(self._label(chat, now), id=chat.id) for chat in chats])
            places = {chat.id: place for place, chat in enumerate(chats)}
            wanted = kept if self.has_focus and kept in places else open_id
            self.highlighted = places.get(wanted, 0 if chats else None)

    def _label(self, chat: ChatEntry, now: float) -> Content:
        is_open = chat.id == self._open
        mark = "▌" if is_open else " "
        title = Content(f"{mark} {printable(chat.title)}")
        count = f"{chat.messages} message{'s' if chat.messages != 1 else ''}"
        when = Content(f"{mark} {day(chat.updated, now)} · {count}").stylize("$foreground 60%")
        return Content("\n").join([title.stylize("bold") if is_open else title, when])

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            self.post_message(ChatChosen(event.option_id))

    def action_leave(self) -> None:
        """Go back to writing."""
        self.post_message(ChatsLeft())

    def action_drop(self) -> None:
        """Ask to delete the chat under the cursor."""
        if self.highlighted is not None:
            chat = self._chats[self.highlighted]
            self.post_message(ChatDropped(chat.id, chat.title))
