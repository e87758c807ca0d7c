"""A chat as lines to read in a terminal or through a screen reader: who said what, and where it branches.

Knows nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Iterator

from localllm.chat.conversation import Conversation, Node


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
