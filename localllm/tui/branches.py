"""What a person does with the versions of messages: edit one, answer one again, switch between them, fork.

All of it is about the message that was jumped to, or the last one. Nothing is ever written over. Knows the screen only
as what shows, asks and answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localllm.chat import outline
from localllm.chat.attachments import Attachment, split
from localllm.chat.commands import escaped
from localllm.chat.conversation import Node
from localllm.errors import BadCommand
from localllm.tui.messages import VersionWanted

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


Written = tuple[list[Attachment], str]
"""Files and the words after them."""


class Branches:
    """The versions, over one screen. All methods are for the app's thread.

    Versions are switched only while no reply is made in the open chat, the rest is done only while none is made at all.
    """

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self.edited: Node | None = None
        """The message whose text is in the prompt to be changed."""
        self._draft: Written = ([], "")

    def switch(self, step: int, message: str = "") -> None:
        """Show the version before or after that of a message, or of the nearest above it that has several."""
        conversation, node = self._screen.conversation, self._node(message)
        while node is not None and len(conversation.siblings(node.id)) < 2:
            node = conversation.nodes[node.parent] if node.parent is not None else None
        if node is None:
            self._screen.notify("No message from here up has another version.")
            return
        siblings = [sibling.id for sibling in conversation.siblings(node.id)]
        place = siblings.index(node.id) + step
        if 0 <= place < len(siblings):
            conversation.select(siblings[place])
            self._screen.chats.keep_leaf()
            self._screen.show_anew("" if conversation.leaf == siblings[place] else siblings[place])
        else:
            self._screen.notify(f"This is the {'first' if step < 0 else 'last'} of {len(siblings)} versions.")

    def wanted(self, event: VersionWanted) -> None:
        """The person clicked for another version of a message."""
        if self._screen.may_switch():
            self.switch(event.step, event.message)

    def show_version(self, number: str) -> None:
        """Show the version of the last question or reply that `/branch` lists under this number.

        Raises:
            BadCommand: there is none.
        """
        conversation = self._screen.conversation
        conversation.select(outline.version(conversation, number).id)
        self._screen.chats.keep_leaf()
        self._screen.show_anew()

    def answer_again(self) -> None:
        """Make another reply to the message, or beside it if it is one."""
        node = self._node()
        question = node if node is None or node.role == "user" else self._nearest_question(node)
        self._screen.replies.answer_again(question.id if question is not None else None)

    def _nearest_question(self, node: Node) -> Node | None:
        return self._screen.conversation.nodes[node.parent] if node.parent is not None else None

    def edit(self) -> None:
        """Put the message into the prompt, with its files; the last question, if no message was jumped to.

        Raises:
            BadCommand: there is none.
        """
        node = self._node() if self._jumped_to else self._screen.conversation.question()
        if node is None:
            raise BadCommand("There is no message to edit yet.")
        composer = self._screen.talk.composer
        if self.edited is None:
            self._draft = composer.written()
        self.edited = node
        composer.clear()
        composer.take_up(*_parts(node))
        whose = "your message" if node.role == "user" else "the reply"
        self._head(f"Editing {whose} · Esc leaves it")

    def give_up(self) -> None:
        """The message that is edited stays as it is; what was being written before comes back."""
        if self.edited is not None:
            self._screen.talk.composer.clear()
            self._leave()

    def _leave(self) -> None:
        self.edited, draft, self._draft = None, self._draft, ([], "")
        self._screen.talk.composer.take_up(*draft)
        self._head("")

    def not_sent(self) -> Written:
        """What is not sent yet: what is in the prompt, or what was being written before the edit and the edit."""
        files, words = self._screen.talk.composer.written()
        if self.edited is None:
            return files, words
        if (files, words) == _parts(self.edited):
            return self._draft
        before, said = self._draft
        names = {file.name for file in files}
        kept = [file for file in before if file.name not in names]
        return [*kept, *files], "\n\n".join(part for part in (said, words) if part)

    def take(self) -> Node | None:
        """The message that was edited, now that the prompt was sent; None if none was."""
        edited = self.edited
        if edited is None:
            return None
        self._leave()
        return edited if edited.id in self._screen.conversation.nodes else None

    def undo(self) -> None:
        """Go back to before the last question, which is in the prompt with its files, to be asked otherwise.

        Raises:
            BadCommand: there is none.
        """
        question = self._screen.conversation.undo()
        if question is None:
            raise BadCommand("There is no question to take back.")
        self.give_up()
        self._screen.chats.keep_leaf()
        self._screen.show_anew()
        self._screen.talk.composer.take_up(*_parts(question))
        self._screen.talk.prompt.focus()

    def fork(self) -> None:
        """Begin a new chat that holds this one, up to and with the message that was jumped to.

        Raises:
            BadCommand: there is nothing to fork.
        """
        fork = self._screen.conversation.fork(until=self._jumped_to or None)
        if not fork.nodes:
            raise BadCommand("There is nothing to fork yet.")
        self._screen.chats.keep_fork(fork)

    def _head(self, title: str) -> None:
        """Say above the prompt what is in it."""
        self._screen.talk.prompt.border_title = title
        self._screen.talk.prompt.focus()
        self._screen.refresh_bindings()

    @property
    def _jumped_to(self) -> str:
        """The id of the message that the person jumped to; empty for none."""
        current = self._screen.talk.transcript.current
        return current.message if current is not None else ""

    def _node(self, message: str = "") -> Node | None:
        """The message that is meant: the named one, the one that was jumped to, or the last."""
        conversation = self._screen.conversation
        wanted = message or self._jumped_to or conversation.leaf
        return conversation.nodes.get(wanted) if wanted else None


def _parts(node: Node) -> Written:
    """What a message is made of, as it is written into the prompt: its files, and the words after them."""
    files, words = split(node.text) if node.role == "user" else ([], node.text)
    return files, escaped(words)
