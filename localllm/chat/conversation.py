"""A conversation as a tree of messages: every reply that was ever made stays, and one path through it is shown.

Pure data and operations on it. Knows nothing of disks, models or screens.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from localllm.chat.attachments import summary
from localllm.runtime.types import Message, Stats

State = Literal["writing", "done", "partial"]
"""`writing`: pieces are still arriving; `done`: the model ended its turn; `partial`: it ended early."""

TITLE_LENGTH = 60

FORKED = "Fork of "
"""Before the title of a fork, where a narrow list shows it."""

CUTS = "cuts"
"""The setting of a chat that holds where what is sent begins: see `Conversation.cut`."""

BEFORE = "A summary of what was said before:"
"""Above a summary where it stands for the messages."""


def new_id() -> str:
    """An id that is unique without asking anybody, so that two apps can write to one database."""
    return uuid.uuid4().hex


@dataclass(frozen=True)
class Node:
    """One message in the tree. `parent` is None for a first message; `created` is in seconds since 1970.

    `stats` is what the reply cost, None for a user's message and for a reply that a crash cut off.
    """

    id: str
    parent: str | None
    role: Literal["user", "assistant"]
    text: str
    created: float
    state: State = "done"
    model: str = ""
    stats: Stats | None = None


@dataclass(frozen=True)
class Given:
    """A message as a model is given it, and the ids of those of the tree that it was made of; none for the system's."""

    message: Message
    nodes: tuple[str, ...] = ()


@dataclass
class Conversation:
    """A tree of nodes and `leaf`, the last node of the path that is shown. Nodes are only ever added or extended.

    `given_title` is one that a person or a model gave it. `settings` are those of this chat, by name, as values that
    JSON can say; what they mean is known to who sets them. One that is `pinned` stands at the top of the list, and is
    the same chat otherwise.
    """

    id: str = field(default_factory=new_id)
    system: str = ""
    created: float = field(default_factory=time.time)
    leaf: str | None = None
    nodes: dict[str, Node] = field(default_factory=dict)
    given_title: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    pinned: bool = field(default=False, compare=False)
    _turned_to: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The message that was shown last below each: of those that follow it, not always the newest. Not kept on disk."""

    def add_user(self, text: str) -> Node:
        """Append a message of the person to the path that is shown."""
        return self.add("user", text)

    def add(self, role: Literal["user", "assistant"], text: str, *, state: State = "done", model: str = "") -> Node:
        """Append a message that is whole to the path that is shown."""
        return self._append(Node(new_id(), self.leaf, role, text, time.time(), state, model))

    def add_reply(self, parent: str, *, model: str = "") -> Node:
        """Begin an empty reply under `parent`, beside the replies that are there already, and show it."""
        return self._append(Node(new_id(), parent, "assistant", "", time.time(), "writing", model))

    def add_version(self, node_id: str, text: str) -> Node:
        """Put `text` beside a message of the same role that is there already, and show it."""
        other = self.nodes[node_id]
        return self._append(Node(new_id(), other.parent, other.role, text, time.time()))

    def _append(self, node: Node) -> Node:
        if node.parent is not None and node.parent not in self.nodes:
            raise KeyError(node.parent)
        if node.parent != self.leaf:
            self._remember_path()
        self.nodes[node.id] = node
        self.leaf = node.id
        return node

    def extend(self, node_id: str, text: str) -> Node:
        """The node with `text` after what it holds, still being written."""
        node = self.nodes[node_id]
        return self._put(replace(node, text=node.text + text, state="writing"))

    def finish(self, node_id: str, stats: Stats | None, *, model: str = "") -> Node:
        """The node as `model` ended it: done where `stats` say that the model ended its turn, else partial."""
        node = self.nodes[node_id]
        return self._put(replace(node, state=final_state(stats), stats=stats, model=model or node.model))

    def withdraw(self, node_id: str) -> None:
        """Take back a reply that never got a word, and show what it was to answer."""
        node = self.nodes[node_id]
        if node.text or self.children(node_id):
            raise ValueError(f"message {node_id} holds text or is followed by others")
        del self.nodes[node_id]
        if self.leaf == node_id:
            self.leaf = node.parent

    def _put(self, node: Node) -> Node:
        self.nodes[node.id] = node
        return node

    def undo(self) -> Node | None:
        """Show what came before the last question. Returns that, None where there is none; it stays as a branch."""
        question = self.question()
        if question is not None:
            self._remember_path()
            self.leaf = question.parent
        return question

    def listed_as(self, title: str) -> None:
        """Take the title that the list of chats has for it; the beginning of a first message is none that was given."""
        automatic = {title_of(node.text) for node in self.nodes.values() if node.parent is None}
        self.given_title = "" if title in automatic else title

    def fork(self, until: str | None = None) -> Conversation:
        """A new conversation that holds the path that is shown, up to and with `until`, and nothing beside it.

        Its title says that it is one: two chats of one title could not be told apart in a list.
        """
        others = {name: value for name, value in self.settings.items() if name != CUTS}
        title = f"{FORKED}{self.title.removeprefix(FORKED)}"
        copy = Conversation(system=self.system, given_title=title, settings=others)
        for node in self.path():
            # A reply that somebody writes goes on here without them.
            state: State = "partial" if node.state == "writing" else node.state
            added = copy._append(replace(node, id=new_id(), parent=copy.leaf, state=state))
            if node.id in self.cuts:
                copy.cut(added.id, self.cuts[node.id])
            if node.id == until:
                break
        return copy

    def path(self) -> list[Node]:
        """The messages that are shown, first to last."""
        found: list[Node] = []
        at = self.leaf
        while at is not None:
            node = self.nodes[at]
            found.append(node)
            at = node.parent
        return found[::-1]

    def children(self, node_id: str | None) -> list[Node]:
        """What was ever said after `node_id`, oldest first; None asks for the first messages."""
        return [node for node in self.nodes.values() if node.parent == node_id]

    def families(self) -> dict[str | None, list[Node]]:
        """`children` of every node at once."""
        found: dict[str | None, list[Node]] = {}
        for node in self.nodes.values():
            found.setdefault(node.parent, []).append(node)
        return found

    def siblings(self, node_id: str) -> list[Node]:
        """The node and its alternatives, oldest first."""
        return self.children(self.nodes[node_id].parent)

    def select(self, node_id: str) -> None:
        """Show the path through `node_id`, and below it what was shown last; the newest, where nothing was yet."""
        at = self.nodes[node_id].id
        self._remember_path()
        families = self.families()
        while below := families.get(at):
            shown = self._turned_to.get(at)
            at = shown if shown in self.nodes else below[-1].id
        self.leaf = at

    def _remember_path(self) -> None:
        self._turned_to |= {node.parent: node.id for node in self.path() if node.parent is not None}

    def question(self) -> Node | None:
        """The last message of the person on the path: what a regenerated reply answers."""
        return next((node for node in reversed(self.path()) if node.role == "user"), None)

    def unfinished(self) -> Node | None:
        """The reply at the end of the path, if it ended early and can go on."""
        last = self.nodes[self.leaf] if self.leaf else None
        return last if last and last.role == "assistant" and last.state == "partial" and last.text else None

    @property
    def cuts(self) -> dict[str, str]:
        """The messages with which what is sent begins, and the summary that is sent for what is above; often empty."""
        cuts: dict[str, str] = self.settings.get(CUTS, {})
        return cuts

    def cut(self, node_id: str, summary: str = "") -> None:
        """Send nothing above this message any more, but the summary in its place. All of it stays in the tree."""
        self.settings[CUTS] = {**self.cuts, self.nodes[node_id].id: summary}

    def mend(self, node_id: str) -> None:
        """Undo `cut`."""
        self.settings[CUTS] = {known: summary for known, summary in self.cuts.items() if known != node_id}

    def first_sent(self, *, mended: str = "") -> Node | None:
        """The message of the path above which nothing is sent; None where all is sent.

        With `mended` as if that cut were undone: the one before counts then.
        """
        return next((node for node in reversed(self.path()) if node.id in self.cuts and node.id != mended), None)

    def messages(self, until: str | None = None) -> list[Message]:
        """What a model is given: the system prompt and the path, up to and with the node `until`; see `given`."""
        return [given.message for given in self.given(until)]

    def given(self, until: str | None = None, *, mended: str = "") -> list[Given]:
        """What a model is given, and what it was made of. Begins with the last cut on the path, if there is one but
        `mended`.

        Messages of the person that were never answered are joined with the next one, because most chat templates
        insist on turns that alternate. A summary is joined with the message that it stands before.
        """
        given = [Given(Message("system", self.system))] if self.system else []
        path, first = self.path(), self.first_sent(mended=mended)
        if first is not None:
            path = path[path.index(first) :]
            if self.cuts[first.id]:
                given.append(Given(Message("user", f"{BEFORE}\n\n{self.cuts[first.id]}")))
        for node in path:
            last = given[-1] if given else None
            if last and last.message.role == node.role == "user":
                joined = Message("user", f"{last.message.content}\n\n{node.text}")
                given[-1] = Given(joined, (*last.nodes, node.id))
            else:
                given.append(Given(Message(node.role, node.text), (node.id,)))
            if node.id == until:
                break
        return given

    @property
    def title(self) -> str:
        """The one it was given, else the beginning of the first message, on one line; empty before there is one."""
        first = next(iter(self.path()), None) or next(iter(self.nodes.values()), None)
        return self.given_title or (title_of(first.text) if first else "")


def final_state(stats: Stats | None) -> State:
    """How a reply that cost `stats` ended; None for one that was cut off."""
    return "done" if stats is not None and stats.stop_reason in ("end", "stop") else "partial"


def title_of(text: str) -> str:
    """The beginning of what `text` says on one line, cut at a word where that is near; files in it do not count."""
    line = " ".join(summary(text).split())
    if len(line) <= TITLE_LENGTH:
        return line
    cut = line[: TITLE_LENGTH - 1]
    word = cut.rfind(" ")
    return (cut[:word] if word > TITLE_LENGTH // 2 else cut).rstrip(" ,;:.") + "…"


def with_nodes(conversation: Conversation, nodes: Iterable[Node]) -> Conversation:
    """The conversation, filled with nodes that were kept, parents before children.

    Raises:
        ValueError: a node whose parent is missing, or a `leaf` that is not among the nodes.
    """
    tree = conversation.nodes
    for node in nodes:
        if node.parent is not None and node.parent not in tree:
            raise ValueError(f"message {node.id} follows {node.parent}, which is not there")
        tree[node.id] = node
    if conversation.leaf is not None and conversation.leaf not in tree:
        raise ValueError(f"the last message {conversation.leaf} is not there")
    return conversation
