"""What each `/` command does in the app.

Each is a line or two over what the screen can do anyway by a key. Knows nothing of how commands are written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.chat.commands import Call, offered
from localllm.errors import BadCommand
from localllm.tui.entries import NoticeEntry

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Orders:
    """The commands, over a screen that carries them out."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self.deeds: dict[str, Callable[[str], None]] = {
            "new": lambda _: screen.action_new_chat(),
            "chats": lambda _: screen.action_toggle_chats(),
            "attach": lambda path: screen.attach(Path(path.strip("\"'"))),
            "retry": lambda _: screen.action_answer_again(),
            "continue": lambda _: screen.action_go_on(),
            "copy": screen.copy,
            "stats": lambda _: self._tell_stats(),
            "help": lambda _: self._tell_commands(),
            "quit": lambda _: screen.app.exit(),
        }

    def carry_out(self, call: Call) -> None:
        """Do what the command says.

        Raises:
            BadCommand: it cannot be done now.
        """
        deed = self.deeds.get(call.command.name)
        if deed is None:
            raise BadCommand(f"/{call.command.name} is not there in the app.", hint="/help lists what is.")
        deed(call.argument)

    def _tell_stats(self) -> None:
        self._screen.tell(NoticeEntry("What the last reply cost", self._screen.cost_of_last(), alarming=False))

    def _tell_commands(self) -> None:
        lines = [f"{command.usage:<24} {command.meaning}" for command in offered() if command.name in self.deeds]
        ways = [
            "",
            "// begins a message that begins with a slash. @path puts a file into a message.",
            "F1 lists all keys.",
        ]
        self._screen.tell(NoticeEntry("Commands", "\n".join([*lines, *ways]), alarming=False))
