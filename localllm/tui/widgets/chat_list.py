"""The chats on disk, one below the other, or those that a search found with what they say.

Knows titles and times; knows nothing of what is in a chat.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localllm.chat.rows import ChatEntry
from localllm.chat.search import Hit, words_of
from localllm.counts import counted
from localllm.tui.amounts import day
from localllm.tui.messages import ChatChosen, ChatDropped, ChatPinned, ChatsLeft, ChatsLeftUpward, TitleWanted
from localllm.tui.wrapping import printable


class ChatList(OptionList):
    """A list to pick from: Enter opens a chat, Delete takes it off the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("delete", "drop", "Delete"),
        Binding("backspace", "drop", show=False),
        Binding("p", "pin", "Pin"),
        Binding("r", "rename", "Rename"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._chats: list[ChatEntry] = []
        self._open: str | None = None
        self._hits: Mapping[str, Hit] = {}
        self._sought = ""

    def show(
        self, chats: list[ChatEntry], open_id: str, *, sought: str = "", hits: Mapping[str, Hit] | None = None
    ) -> None:
        """List `chats`; the one that is open is marked. `hits` are what was found of `sought`, by the chat's id."""
        wanted = (chats, open_id, sought, hits or {})
        if wanted == (self._chats, self._open, self._sought, self._hits):
            return
        kept = self.highlighted_option.id if self.highlighted_option else None
        searched = sought != self._sought
        self._chats, self._open, self._sought, self._hits = wanted
        now = time.time()
        with self.prevent(OptionList.OptionHighlighted):
            self.set_options([Option(self._label(chat, now), id=chat.id) for chat in chats])
            places = {chat.id: place for place, chat in enumerate(chats)}
            at = 0 if searched and sought else places.get(kept) if self.has_focus and kept is not None else None
            self.highlighted = at if at is not None and chats else self._start

    @property
    def _start(self) -> int | None:
        """The place of the chat that is open; of the latest, where that is not listed. A pinned one may stand above."""
        of_open = (place for place, chat in enumerate(self._chats) if chat.id == self._open)
        latest = max(range(len(self._chats)), key=lambda place: self._chats[place].updated, default=None)
        return next(of_open, latest)

    def to_open(self) -> None:
        """Begin where the person is: at the chat that is open, or at what was found first."""
        if not self._sought:
            self.highlighted = self._start

    def _label(self, chat: ChatEntry, now: float) -> Content:
        is_open = chat.id == self._open
        mark = "●" if is_open else " "
        title = Content(f"{mark} {printable(chat.title)}")
        count = counted(chat.messages, "message")
        pinned = "pinned · " if chat.pinned else ""
        when = Content(f"  {pinned}{day(chat.updated, now)} · {count}").stylize("$foreground 60%")
        lines = [self._found(title.stylize("bold") if is_open else title), when]
        hit = self._hits.get(chat.id)
        if hit is not None and hit.excerpt:
            lines.insert(1, self._found(Content(f"  {printable(hit.excerpt)}").stylize("$foreground 80%")))
        return Content("\n").join(lines)

    def _found(self, line: Content) -> Content:
        """The line with what was looked for in another style."""
        folded = line.plain.casefold()
        for word in words_of(self._sought):
            at = folded.find(word)
            if at >= 0 and len(folded) == len(line.plain):
                line = line.stylize("$text-accent bold", at, at + len(word))
        return line

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_id is not None:
            hit = self._hits.get(event.option_id)
            self.post_message(ChatChosen(event.option_id, hit.message if hit is not None else None))

    @property
    def _here(self) -> ChatEntry | None:
        """The chat under the cursor."""
        return self._chats[self.highlighted] if self.highlighted is not None else None

    def action_cursor_up(self) -> None:
        """Up; from the first chat to the search."""
        if self.highlighted:
            super().action_cursor_up()
        else:
            self.post_message(ChatsLeftUpward())

    def action_leave(self) -> None:
        """Go back to writing."""
        self.post_message(ChatsLeft())

    def action_drop(self) -> None:
        """Ask to delete the chat under the cursor."""
        if (chat := self._here) is not None:
            self.post_message(ChatDropped(chat.id, chat.title))

    def action_pin(self) -> None:
        """Ask to keep the chat under the cursor at the top, or no longer."""
        if (chat := self._here) is not None:
            self.post_message(ChatPinned(chat.id, not chat.pinned))

    def action_rename(self) -> None:
        """Ask for another title of the chat under the cursor."""
        if (chat := self._here) is not None:
            self.post_message(TitleWanted(chat.id, chat.title))
