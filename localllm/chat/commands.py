"""The `/` commands of a chat: one table for the app and for `chat --plain`, and how a line becomes one of them.

Knows what commands are called and take; knows nothing of what they do.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from localllm.errors import BadCommand

ESCAPE = "//"
"""A message that begins with a slash is written with two."""

_WORD = re.compile(r"/([A-Za-z][\w-]*)(?=\s|$)")


@dataclass(frozen=True)
class Command:
    """One command. `argument` says what follows its name, in brackets where it may be left out; empty for nothing.

    `in_plain` says whether it makes sense without a screen; `others` are further names for it.
    """

    name: str
    argument: str
    meaning: str
    in_plain: bool = True
    others: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        """How it is written: `/open CHAT`."""
        return f"/{self.name} {self.argument}".rstrip()


COMMANDS: tuple[Command, ...] = (
    Command("new", "", "begin a new chat"),
    Command("chats", "[WORDS]", "list the chats, or those whose title or text holds all of the words"),
    Command("open", "CHAT", "go on with a chat, by the beginning of its id or title"),
    Command("rename", "[TITLE]", "give this chat a title; without one it is automatic again"),
    Command("pin", "", "keep this chat at the top of the list, or no longer"),
    Command("delete", "", "delete this chat; it can be restored for 30 days"),
    Command("restore", "", "bring back the chat that was deleted last"),
    Command("model", "[MODEL]", "say which model answers, or load another"),
    Command("find", "TEXT", "find a text in this chat"),
    Command("compare", "[MODEL]", "ask this model and another one the same, side by side", in_plain=False),
    Command("system", "[TEXT]", "say the system prompt, or change it; a single - removes it"),
    Command("set", "[NAME [VALUE]]", "say how replies are made, or change it: /set max-tokens 300; - is the default"),
    Command("attach", "FILE", "put a file into the next message"),
    Command("retry", "", "answer again; the old reply is kept", others=("regenerate",)),
    Command("continue", "", "go on with a reply that ended early"),
    Command("undo", "", "go back to before the last question; it is kept as a branch"),
    Command("edit", "[TEXT]", "ask the last question in other words; the old one is kept"),
    Command("all", "", "send again what the last line in the chat keeps out (F6 draws one)"),
    Command("fork", "", "begin a new chat that holds this one up to here"),
    Command("branch", "[N]", "list the versions of the last question and reply, or show another"),
    Command("save", "FILE", "export this chat: Markdown, or JSON for a name that ends in .json", others=("export",)),
    Command("copy", "[code]", "copy the last reply, or its last block of code; without a terminal, print it"),
    Command("stats", "", "what the last reply cost, and how full the context is"),
    Command("help", "[WORD]", "list the commands, or those whose name or meaning holds a word", others=("?",)),
    Command("quit", "", "end; everything is kept", others=("exit", "bye")),
)
"""In the order in which help lists them."""

_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.others)}


@dataclass(frozen=True)
class Call:
    """A command as it was written, with what follows its name; the argument may run over several lines."""

    command: Command
    argument: str = ""


def offered(*, plain: bool = False) -> list[Command]:
    """The commands of the app, or of `chat --plain`."""
    return [command for command in COMMANDS if command.in_plain or not plain]


def about(word: str, *, plain: bool = False) -> list[Command]:
    """The commands that `word` names or says something of; all for an empty one.

    Raises:
        BadCommand: there is none.
    """
    sought, among = word.removeprefix("/").casefold(), offered(plain=plain)
    if (named := _BY_NAME.get(sought)) in among:
        return [named]
    found = [command for command in among if sought in f"{command.usage} {command.meaning}".casefold()]
    if not found:
        raise BadCommand(f"No command is about {word!r}.", hint="/help lists all.")
    return found


def matching(beginning: str, *, plain: bool = False) -> list[Command]:
    """The commands that what was typed so far, with its slash, may become: for completion."""
    typed = beginning.removeprefix("/").casefold()
    return [
        command
        for command in offered(plain=plain)
        if any(name.startswith(typed) for name in (command.name, *command.others))
    ]


def parse(text: str, *, plain: bool = False) -> Call | None:
    """The command that `text` is, or None if it is a message: of a path such as `/etc/hosts` the name ends in a slash.

    Raises:
        BadCommand: there is no such command here; it takes nothing, and something follows; or it lacks what it takes.
    """
    found = _WORD.match(text) or re.match(r"/(\?)(?=\s|$)", text)
    if found is None:
        _refuse_glued(text, plain=plain)
        return None
    name, argument = found[1].casefold(), text[found.end() :].strip()
    command = _BY_NAME.get(name)
    if command is None or command not in offered(plain=plain):
        raise _unknown(name, offered(plain=plain))
    if argument and not command.argument:
        raise BadCommand(f"/{command.name} takes nothing after its name.", hint=_as_message(name))
    if not argument and command.argument and not command.argument.startswith("["):
        raise BadCommand(f"/{command.name} needs something after its name: {command.usage}", hint=_meaning(command))
    return Call(command, argument)


def _refuse_glued(text: str, *, plain: bool) -> None:
    """`/branch/undo` are two commands that ran together, and no path."""
    _, *names = text.split(maxsplit=1)[0].split("/") if text.startswith("/") else [""]
    if names and all(name.casefold() in _BY_NAME for name in names):
        raise _unknown("/".join(names), offered(plain=plain))


def unescaped(text: str) -> str:
    """The message that is meant: one that begins with two slashes begins with one."""
    return text[1:] if text.startswith(ESCAPE) else text


def escaped(text: str) -> str:
    """What to write for this message: the opposite of `unescaped`."""
    return f"/{text}" if text.startswith("/") else text


def _unknown(name: str, among: list[Command]) -> BadCommand:
    names = [one for command in among for one in (command.name, *command.others)]
    near = difflib.get_close_matches(name, names, n=3)
    meant = f"The nearest: {', '.join('/' + one for one in near)}. " if near else ""
    return BadCommand(f"There is no command /{name}.", hint=f"{meant}/help lists all. {_as_message(name)}")


def _as_message(name: str) -> str:
    return f"To send it as a message, begin with two slashes: //{name} …"


def _meaning(command: Command) -> str:
    return f"It is there to {command.meaning}."
