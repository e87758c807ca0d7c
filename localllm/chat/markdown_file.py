"""A chat as Markdown, for people: the system prompt and the path that is shown; and back.

Comments mark where a message begins, so that a heading inside of one is no message. A thought that ended is folded: a
marker such as `<think>` is an unknown tag to Markdown, and its text would stand there as the answer. What Markdown does
not hold, and JSON does: other branches, times, what replies cost, settings, and by which markers a model thought. Knows
nothing of the store.
"""

from __future__ import annotations

import re

from localllm.chat.conversation import Conversation, Node
from localllm.errors import BadChat
from localllm.runtime.thinking import FOLDED, MARKERS, parted

_MARK = re.compile(r"^<!-- localllm (system|user|assistant|partial) -->[ \t]*\r?\n(?:##[^\n]*\n)?", re.MULTILINE)
_ESCAPED = re.compile(r"<!-- (\\+)localllm ")
_LIKE_A_MARK = re.compile(r"<!-- (\\*)localllm ")
_THOUGHT = re.compile(rf"\A{re.escape(FOLDED[0])}(.*?){re.escape(FOLDED[1])}", re.DOTALL)
_TITLE = re.compile(r"\A\s*# ([^\n]*)")


def write(chat: Conversation) -> str:
    """The path of the chat that is shown."""
    parts = [f"# {' '.join(chat.title.split()) or 'Chat'}\n"]
    if chat.system:
        parts.append(_section("system", "System prompt", chat.system))
    for node in chat.path():
        kind = "user" if node.role == "user" else "partial" if node.state != "done" else "assistant"
        parts.append(_section(kind, _heading(node), node.text if node.role == "user" else _folded(node.text)))
    return "\n".join(parts)


def _folded(reply: str) -> str:
    """The reply with its thought in a block that opens on a click, if it is read back as the same thought."""
    said = parted(reply)
    if not said.thought or not said.closed:
        return reply
    return said.folded if parted(_unfolded(said.folded)) == said else reply


def _unfolded(reply: str) -> str:
    begin, end = MARKERS[0]
    return _THOUGHT.sub(lambda found: f"{begin}\n{found[1]}\n{end}\n\n", reply)


def _heading(node: Node) -> str:
    if node.role == "user":
        return "You"
    return " ".join(node.model.split()) or "Reply"


def _section(kind: str, heading: str, text: str) -> str:
    # What looks like a mark inside of a message gets a backslash more, which is taken away when it is read.
    text = _LIKE_A_MARK.sub(lambda found: f"<!-- \\{found[1]}localllm ", text)
    return f"<!-- localllm {kind} -->\n## {heading}\n\n{text}\n"


def lost(chat: Conversation) -> int:
    """How many messages of other branches the Markdown does not hold."""
    return len(chat.nodes) - len(chat.path())


def read(text: str) -> Conversation:
    """The chat of a file that `write` made, and a person may have edited. Empty lines around messages do not count.

    Raises:
        BadChat: no message is marked in it.
    """
    marks = list(_MARK.finditer(text))
    if not any(mark[1] != "system" for mark in marks):
        raise BadChat(
            "No message is marked in it.",
            hint="A chat in Markdown has a line such as <!-- localllm user --> before each message, as "
            "`localllm chats export` writes.",
        )
    title = _TITLE.match(text[: marks[0].start()])
    chat = Conversation(given_title=title[1].strip() if title else "")
    for mark, end in zip(marks, [*(mark.start() for mark in marks[1:]), len(text)], strict=True):
        said = _ESCAPED.sub(lambda found: f"<!-- {found[1][1:]}localllm ", text[mark.end() : end]).strip("\r\n")
        if mark[1] == "system":
            chat.system = said
        elif mark[1] == "user":
            chat.add_user(said)
        else:
            chat.add(
                "assistant", _unfolded(said), state="partial" if mark[1] == "partial" else "done", model=_model(mark[0])
            )
    if chat.given_title == Conversation(nodes=chat.nodes, leaf=chat.leaf).title:
        chat.given_title = ""  # it was automatic
    return chat


def _model(mark: str) -> str:
    _, _, heading = mark.partition("## ")
    heading = heading.strip()
    return "" if heading == "Reply" else heading
