"""A chat as lines to read in a terminal or through a screen reader: who said what, and where it branches.

Knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Iterator

from localllm.chat.attachments import summary
from localllm.chat.conversation import Conversation, Node
from localllm.chat.search import excerpt
from localllm.errors import BadCommand

LISTED_CHARACTERS = 200
"""So much of a version is listed: it is to be told from the others."""


def path(chat: Conversation) -> Iterator[str]:
    """The system prompt and the messages that are shown."""
    if chat.system:
        yield f"System prompt: {chat.system}\n"
    families = chat.families()
    for node in chat.path():
        yield f"{heading(node, families[node.parent])}:\n{node.text}\n"


def heading(node: Node, siblings: list[Node]) -> str:
    """Who says a message, which of several versions it is, and whether it is whole."""
    who = "You" if node.role == "user" else node.model or "Reply"
    place = [sibling.id for sibling in siblings].index(node.id) + 1
    which = f" ({place} of {len(siblings)})" if len(siblings) > 1 else ""
    state = {"done": "", "partial": ", ended early", "writing": ", being written"}[node.state]
    return f"{who}{which}{state}"


def branches(chat: Conversation) -> Iterator[str]:
    """Every version of every message, indented by one step for each time that the chat branches before it."""
    shown = {node.id for node in chat.path()}
    families = chat.families()
    waiting = [(node, 0) for node in reversed(families.get(None, []))]
    while waiting:
        node, depth = waiting.pop()
        siblings = families[node.parent]
        depth += len(siblings) > 1
        indent = "  " * depth
        text = node.text.replace("\n", f"\n{indent}  ")
        yield f"{indent}{'>' if node.id in shown else '-'} {heading(node, siblings)}: {text}"
        waiting += [(child, depth) for child in reversed(families.get(node.id, []))]


def found(chat: Conversation, text: str) -> Iterator[str]:
    """The messages that are shown and hold `text`, in any case and with any space between its words: which of them it
    is, who says it, and what it says there."""
    looked_for = " ".join(text.split()).casefold()
    for number, node in enumerate(chat.path(), start=1):
        said = " ".join(node.text.split())
        if looked_for in said.casefold():
            yield f"{number}  {heading(node, chat.siblings(node.id))}: {excerpt(said, looked_for)}"


def versions(chat: Conversation) -> Iterator[str]:
    """The versions of the last question, then those of the last reply, with their numbers.

    Raises:
        BadCommand: there are none.
    """
    for number, node in enumerate(_versions(chat), start=1):
        text = " ".join((summary(node.text) if node.role == "user" else node.text).split())
        text = text if len(text) <= LISTED_CHARACTERS else f"{text[:LISTED_CHARACTERS]}…"
        yield f"{number}  {heading(node, chat.siblings(node.id))}: {text}"


def version(chat: Conversation, number: str) -> Node:
    """The one of `versions` that goes by `number`.

    Raises:
        BadCommand: there is no such number, or none at all.
    """
    among = _versions(chat)
    if not number.isdecimal() or not 1 <= int(number) <= len(among):
        raise BadCommand(f"There is no version {number}; there are {len(among)}.", hint="/branch lists them.")
    return among[int(number) - 1]


def _versions(chat: Conversation) -> list[Node]:
    found = {node.role: chat.siblings(node.id) for node in chat.path()[-2:]}
    among = [node for role in ("user", "assistant") for node in found.get(role, [])]
    if not among:
        raise BadCommand("There are no messages yet.")
    return among
