"""The chats on the screen: one is open, others are turned to, begun, deleted; what belongs to the open one is kept.

Knows the screen only as what shows; reading and writing is the archive's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from localllm.chat.conversation import Conversation, Node
from localllm.chat.rows import ChatEntry
from localllm.counts import counted
from localllm.tui import wording
from localllm.tui.backstage import Backstage
from localllm.tui.messages import ChatChosen, ChatDropped, ChatExported, ChatOpened

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Chats:
    """Over one screen. All methods are for the app's thread. A reply that is being made goes on in its chat."""

    def __init__(self, screen: ChatScreen, behind: Backstage) -> None:
        self._screen = screen
        self._archive = behind.archive
        self._dialogue = behind.dialogue
        self._told_elsewhere = ("", 0)
        """A chat, and how many messages it had on the disk when it was last told that some are not shown."""

    @property
    def _open(self) -> Conversation:
        return self._dialogue.conversation

    def listed(self, entries: list[ChatEntry]) -> None:
        """Show the chats there are; the title of the open one may have changed, or whether it is pinned."""
        for entry in entries:
            if entry.id == self._open.id:
                self._open.listed_as(entry.title)
                self._open.pinned = entry.pinned
                self._screen.talk.transcript.entitle(entry.title)
                self._tell_elsewhere(entry.messages)
        self._screen.sidebar.show(entries, self._open.id)
        self._screen.talk.greet(len(entries))

    def _tell_elsewhere(self, on_disk: int) -> None:
        """Say that another window wrote in the open chat, too. Its messages stand beside those that are shown."""
        more = on_disk - len(self._open.nodes)
        if more > 0 and self._dialogue.turn is None and (self._open.id, on_disk) != self._told_elsewhere:
            self._told_elsewhere = self._open.id, on_disk
            what = "a message" if more == 1 else counted(more, "message")
            self._screen.notify(f"Another window wrote {what} in this chat. Pick it in the list (F3) to see it all.")

    def choose(self, event: ChatChosen) -> None:
        """The person picked a chat in the list."""
        if self._screen.may_leave():
            self._archive.open(event.chat_id, event.message)
            self._screen.leave_chats()

    def open_named(self, name: str) -> None:
        """Open the chat that goes by this name."""
        if self._screen.may_leave():
            self._archive.open_named(name)

    def opened(self, event: ChatOpened) -> None:
        """A chat came from the disk."""
        if self._screen.may_leave():
            self._turn_to(event.conversation, event.message)
            if event.forked_from:
                self._screen.notify(wording.forked(event.conversation, event.forked_from), markup=False)
            if event.message is not None:
                self._go_to(event.message)

    def _go_to(self, message: str) -> None:
        if message in {node.id for node in self._open.path()}:
            # Only then the transcript has a size, which it lacks while the welcome is in its place.
            self._screen.call_after_refresh(self._screen.talk.transcript.go_to, message)
        else:
            self._screen.notify(
                "What was found is in another version of this chat, which can be shown once the reply is made.",
                severity="warning",
            )

    def new(self) -> None:
        """Begin a new chat."""
        if self._screen.may_leave():
            self._turn_to(None)

    def _turn_to(self, conversation: Conversation | None, message: str | None = None) -> None:
        self._screen.branches.give_up()
        left = self._screen.drafts.leave()
        self._dialogue.open(conversation)
        # Where more of the chat is here than on the disk, it is shown as it was left, not as it was read.
        if message in self._open.nodes.keys() - {node.id for node in self._open.path()} and not self._dialogue.grows:
            self._open.select(message)
        self._screen.drafts.come(left)
        self._screen.show_anew()
        self._screen.resuming.look()
        self._archive.list()
        self._screen.talk.prompt.focus()

    def drop(self, event: ChatDropped) -> None:
        """Delete a chat."""
        turn = self._dialogue.turn
        is_answered = turn is not None and turn.task.conversation.id == event.chat_id
        if not is_answered or self._screen.may_turn():
            self._screen.sidebar.delete(event.chat_id, event.title)
            if event.chat_id == self._open.id:
                self._turn_to(None)

    def exported(self, event: ChatExported) -> None:
        """Say where a chat was written to."""
        self._screen.notify(f"{event.path}: {counted(event.messages, 'message')}", markup=False)

    def export(self, path: Path) -> None:
        """Write the open chat to a file that is not there yet."""
        self._archive.export(self._open, path)

    def change_system(self, text: str) -> None:
        """Another system prompt for the open chat, from the next message on."""
        self._open.system = text
        self._archive.keep_system(self._open.id, text)

    def keep_settings(self, conversation: Conversation | None = None) -> None:
        """Remember the settings of a chat, the open one if none is named."""
        chat = conversation or self._open
        self._archive.keep_settings(chat.id, dict(chat.settings))

    def keep_leaf(self) -> None:
        """Remember which message is shown last."""
        self._archive.show(self._open.id, self._open.leaf)

    def keep_version(self, edited: Node, text: str) -> None:
        """Put `text` beside a message that no reply follows, and show it."""
        self._archive.keep(self._open, self._open.add_version(edited.id, text))
        self._screen.show_anew()

    def keep_fork(self, fork: Conversation) -> None:
        """Write a fork of the open chat, and open it."""
        self._archive.keep_fork(fork, self._open.title)
