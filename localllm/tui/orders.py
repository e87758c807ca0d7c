"""What each `/` command does in the app.

Each is a line or two over what the screen can do anyway by a key. Knows nothing of how commands are written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localllm import paths
from localllm.chat import outline, settings
from localllm.chat.commands import Call, about
from localllm.errors import BadCommand
from localllm.tui.entries import NoticeEntry
from localllm.tui.messages import ChatDropped

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Orders:
    """The commands, over a screen that carries them out."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self.deeds: dict[str, Callable[[str], None]] = {
            "new": lambda _: screen.chats.new(),
            "chats": self._chats,
            "open": lambda name: screen.chats.open_named(name),
            "rename": self._rename,
            "pin": lambda _: screen.sidebar.pin(self._kept()),
            "delete": lambda _: self._delete(),
            "restore": lambda _: self._restore(),
            "model": lambda name: screen.switching.name(name) if name else screen.switching.offer(),
            "find": lambda text: screen.talk.find(text),
            "compare": lambda name: screen.action_compare(name),
            "system": self._system,
            "set": self._set,
            "undo": lambda _: self._undo(),
            "edit": lambda text: screen.sending.ask_instead(text) if text else screen.action_edit(),
            "all": lambda _: screen.overflow.send_again(),
            "fork": lambda _: screen.action_fork(),
            "branch": self._branch,
            "save": lambda name: screen.chats.export(paths.expanded(name)),
            "attach": lambda path: screen.talk.composer.attach(Path(path.strip("\"'"))),
            "retry": lambda _: screen.action_answer_again(),
            "continue": lambda _: screen.action_go_on(),
            "copy": self._copy,
            "stats": lambda _: self._tell_stats(),
            "help": self._tell_commands,
            "quit": lambda _: screen.app.exit(),
        }

    def carry_out(self, call: Call) -> None:
        """Do what the command says.

        Raises:
            BadCommand: it cannot be done now.
        """
        self.deeds[call.command.name](call.argument)

    def _kept(self) -> str:
        """The id of this chat, which is on disk."""
        if not self._screen.conversation.nodes:
            raise BadCommand("This chat has no messages yet, so it is not kept.", hint="Say something first.")
        return self._screen.conversation.id

    def _chats(self, words: str) -> None:
        if words:
            self._screen.show_chats()
            self._screen.sidebar.look_for(words)
        else:
            self._screen.action_toggle_chats()

    def _rename(self, title: str) -> None:
        if title:
            self._screen.conversation.given_title = title
            self._screen.sidebar.give_title(self._kept(), title)
        else:
            self._screen.sidebar.rename(self._kept(), self._screen.conversation.title)

    def _delete(self) -> None:
        self._screen.chats.drop(ChatDropped(self._kept(), self._screen.conversation.title))

    def _restore(self) -> None:
        restored = self._screen.sidebar.restore()
        if not restored:
            raise BadCommand(
                "No chat was deleted since the app began.", hint="`localllm chats restore` brings back older ones."
            )
        self._screen.behind.archive.open(restored)

    def _branch(self, number: str) -> None:
        if not number:
            listed = "\n".join(outline.versions(self._screen.conversation))
            self._screen.talk.tell(NoticeEntry("Versions of the last question and reply", listed, alarming=False))
        elif self._screen.may_turn():
            self._screen.branches.show_version(number)

    def _system(self, text: str) -> None:
        if text:
            self._screen.chats.change_system("" if text == settings.DEFAULT else text)
        system = self._screen.conversation.system
        self._screen.talk.tell(
            NoticeEntry("System prompt" if system else "There is no system prompt.", system, alarming=False)
        )

    def _set(self, order: str) -> None:
        conversation = self._screen.conversation
        if order:
            conversation.settings = settings.changed(conversation.settings, order)
            self._screen.chats.keep_settings()
        told = self._screen.behind.dialogue.described() or "everything as the model recommends"
        self._screen.talk.tell(NoticeEntry("How replies are made in this chat", told, alarming=False))

    def _undo(self) -> None:
        if self._screen.may_turn():
            self._screen.branches.undo()

    def _copy(self, what: str) -> None:
        talk = self._screen.talk
        talk.action_copy_code() if what == "code" else talk.action_copy_message()

    def _tell_stats(self) -> None:
        self._screen.talk.tell(NoticeEntry("What the last reply cost", self._screen.replies.account(), alarming=False))

    def _tell_commands(self, word: str) -> None:
        lines = [f"{command.usage:<24} {command.meaning}" for command in about(word)]
        ways = [
            "",
            "// begins a message that begins with a slash. @path puts a file into a message.",
            "F1 lists all keys.",
        ]
        self._screen.talk.tell(NoticeEntry("Commands", "\n".join([*lines, *ways]), alarming=False))
