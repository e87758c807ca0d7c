"""The left of the screen: a search over the chats above the list of them, and what is done with the chats in it.

Asks the archive, which answers by way of the screen. Knows nothing of what is in a chat, or which one is answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from localllm.chat.rows import ChatEntry
from localllm.chat.search import Hit
from localllm.tui.archive import Archive
from localllm.tui.messages import (
    ChatPinned,
    ChatsLeftDownward,
    ChatsLeftUpward,
    SearchChanged,
    TitleWanted,
)
from localllm.tui.screens.rename import RenameScreen
from localllm.tui.widgets.chat_list import ChatList
from localllm.tui.widgets.chat_search import ChatSearch


class Sidebar(Vertical):
    """The chats."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Before the list, which would get the letters that come with it in one read, too, and pin or rename.
        Binding("slash", "search", "Search", priority=True),
    ]

    def __init__(self, archive: Archive, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.border_title = " Chats"
        self._archive = archive
        self._search = ChatSearch(id="chat-search")
        self._list = ChatList(id="chat-list")
        self._chats: list[ChatEntry] = []
        self._open_id = ""
        self._deleted: list[tuple[str, str]] = []
        self._recovered = archive.recovered

    def compose(self) -> ComposeResult:
        """Textual's."""
        yield self._search
        yield self._list

    def focus_list(self) -> None:
        """Let the person pick a chat, from the one that is open on."""
        self._list.to_open()
        self.screen.set_focus(self._list)  # at once: `focus` would be carried out behind the keys that wait

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: the sign that leads to the search is a letter in it."""
        return self._list.has_focus if action == "search" else super().check_action(action, parameters)

    def action_search(self) -> None:
        """Go to the line above the list, where the person says what to search."""
        self.screen.set_focus(self._search)  # at once, as above

    def show(self, chats: list[ChatEntry], open_id: str) -> None:
        """List `chats`, or those of them that are searched; the one that is open is marked."""
        self._chats, self._open_id = chats, open_id
        self._tell_recovered()
        if self._search.value.strip():
            self._archive.search(self._search.value)
        else:
            self._list.show(chats, open_id)

    def _tell_recovered(self) -> None:
        """Say once which replies a crash cut off."""
        for chat in self._chats:
            if chat.id in self._recovered and chat.id != self._open_id:  # there it stands below the reply
                self.notify(f"A reply in “{chat.title}” was cut off. Open it, and Ctrl+G goes on.", markup=False)
        self._recovered = frozenset()

    def look_for(self, words: str) -> None:
        """Search for `words`, and let the person pick from what is found."""
        self._search.value = words
        self._list.focus()

    def end_search(self) -> None:
        """List all chats again: a search that is left would hide the others from then on."""
        self._search.clear()

    def found(self, words: str, hits: Sequence[Hit]) -> None:
        """List what a search found, unless the person looks for something else by now."""
        if words == self._search.value:
            entries = {chat.id: chat for chat in self._chats}
            shown = [entries[hit.chat] for hit in hits if hit.chat in entries]
            self._list.show(shown, self._open_id, sought=words, hits={hit.chat: hit for hit in hits})

    @on(SearchChanged)
    def _search_changed(self, event: SearchChanged) -> None:
        event.stop()
        self.show(self._chats, self._open_id)

    @on(ChatsLeftDownward)
    def _to_list(self, event: ChatsLeftDownward) -> None:
        event.stop()
        self._list.focus()

    @on(ChatsLeftUpward)
    def _to_search(self, event: ChatsLeftUpward) -> None:
        event.stop()
        self.action_search()

    @on(ChatPinned)
    def _pin(self, event: ChatPinned) -> None:
        event.stop()
        self._archive.pin(event.chat_id, event.pinned)

    @on(TitleWanted)
    def _ask_title(self, event: TitleWanted) -> None:
        event.stop()
        self.rename(event.chat_id, event.title)

    def rename(self, chat_id: str, title: str) -> None:
        """Ask for a title; an empty one is automatic again."""

        def renamed(new: str | None) -> None:
            if new is not None and new != title:
                self.give_title(chat_id, new)

        self.app.push_screen(RenameScreen(title), renamed)

    def give_title(self, chat_id: str, title: str) -> None:
        """Give a chat a title; an empty one is automatic again."""
        self._archive.rename(chat_id, title)

    def pin(self, chat_id: str) -> None:
        """Keep a chat at the top, or no longer."""
        pinned = any(chat.pinned for chat in self._chats if chat.id == chat_id)
        self._archive.pin(chat_id, not pinned)

    def delete(self, chat_id: str, title: str) -> None:
        """Take a chat off the list."""
        self._archive.delete(chat_id)
        self._deleted.append((chat_id, title))
        self.app.clear_notifications()  # several deletions shall not pile up
        self.notify(f"Deleted “{title}”. Ctrl+Z in the list brings it back.", markup=False)

    def restore(self) -> str:
        """Undo the last deletion, then the one before it. The id of the chat that is back; empty for none."""
        if not self._deleted:
            return ""
        chat_id, title = self._deleted.pop()
        self._archive.restore(chat_id)
        self.app.clear_notifications()  # the last one says that it is gone
        self.notify(f"Restored “{title}”.", markup=False)
        return chat_id
