"""Chats as a JSON document, with all branches, and back: nothing of a conversation is lost.

Reads what anybody may have written, so every value is checked and none is believed. Knows nothing of the store.

    {"format": "localllm chats", "version": 1, "chats": [
      {"id": …, "title": …, "system": …, "created": …, "leaf": …, "settings": {…}, "pinned": false,
       "messages": [{"id": …, "parent": …, "role": …, "text": …, "created": …, "state": …, "model": …, "stats": {…}}]}]}

`title` is empty where it is automatic. Parents stand before their children; `parent` is null for a first message, and
`leaf` is the last message that is shown. What other programs write is read as well where it is a list of messages with
`role` and `content`, alone or as `messages` of an object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from localllm.chat.conversation import CUTS, Conversation, Node, with_nodes
from localllm.chat.costs import stats_of
from localllm.chat.moments import is_moment
from localllm.chat.settings import ENGINE, SAMPLING, check
from localllm.errors import BadChat, BadSettings

FORMAT = "localllm chats"
VERSION = 1

_HINT = "Nothing was imported. `localllm chats export --format json` writes what can be read here."


def document(chats: Sequence[Conversation]) -> dict[str, Any]:
    """The chats as values that JSON can say."""
    return {"format": FORMAT, "version": VERSION, "chats": [chat_values(chat) for chat in chats]}


def chat_values(chat: Conversation) -> dict[str, Any]:
    """One chat as values that JSON can say."""
    return {
        "id": chat.id,
        "title": chat.given_title,
        "system": chat.system,
        "created": chat.created,
        "leaf": chat.leaf,
        "settings": chat.settings,
        "pinned": chat.pinned,
        "messages": [asdict(node) for node in chat.nodes.values()],
    }


def read(text: str) -> list[Conversation]:
    """The chats of a document. A reply that was being written when it was made ended early.

    Raises:
        BadChat: it is no JSON, from a newer version, or says something that no chat can be; says where.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise BadChat(f"It is no JSON: {error}.", hint=_HINT) from None
    except RecursionError:
        raise BadChat("It is no chat: its values are nested too deep.", hint=_HINT) from None
    if isinstance(values, list):
        values = {"messages": values}
    if isinstance(values, dict) and "format" not in values and isinstance(values.get("messages"), list):
        return [_linear(values)]
    given = _Fields(values, "")
    if values.get("format") != FORMAT:
        raise given.wrong("format", f"{FORMAT!r}")
    if given.number("version") > VERSION:
        raise BadChat("It was written by a newer localllm.", hint="Upgrade localllm. Nothing was imported.")
    return [_read_chat(_Fields(chat, f"chats[{at}]")) for at, chat in enumerate(given.list("chats"))]


class _Fields:
    """The fields of one object of the document; `place` is where it stands."""

    def __init__(self, values: Any, place: str) -> None:
        self.place = place
        self._values = values
        if not isinstance(values, dict):
            raise BadChat(f"{place or 'It'} is not an object.", hint=_HINT)

    def wrong(self, name: str, wanted: str) -> BadChat:
        place = f"{self.place}.{name}" if self.place else name
        return BadChat(f"{place} is not {wanted}.", hint=_HINT)

    def take(self, name: str, wanted: str, fits: Callable[[Any], bool], default: Any = None) -> Any:
        value = self._values.get(name, default)
        if not fits(value):
            raise self.wrong(name, wanted)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value: str = self.take(name, "a text", _is_text, default)
        return value

    def text_or_none(self, name: str) -> str | None:
        value: str | None = self.take(name, "a text or null", lambda value: value is None or _is_text(value))
        return value

    def number(self, name: str, default: float | None = None) -> float:
        return float(self.take(name, "a number", _is_number, default))

    def moment(self, name: str) -> float:
        value = self.number(name)
        if not is_moment(value):
            raise self.wrong(name, "a time in the years 1 to 9999")
        return value

    def list(self, name: str) -> list[Any]:
        value: list[Any] = self.take(name, "a list", lambda value: isinstance(value, list))
        return value

    def object(self, name: str) -> dict[str, Any]:
        value: dict[str, Any] = self.take(name, "an object", lambda value: isinstance(value, dict), {})
        return value

    def one_of(self, name: str, choices: tuple[str, ...], default: str | None = None) -> Any:
        return self.take(name, f"one of {', '.join(choices)}", lambda value: value in choices, default)


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can say and no disk can hold
        return False


def _is_number(value: object) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
    )


def _read_chat(given: _Fields) -> Conversation:
    chat = Conversation(
        given.text("id"),
        given.text("system", ""),
        given.moment("created"),
        given.text_or_none("leaf"),
        given_title=given.text("title", ""),
        settings=_settings(given),
        pinned=given.take("pinned", "true or false", lambda value: isinstance(value, bool), False),
    )
    nodes = [
        _read_node(_Fields(node, f"{given.place}.messages[{at}]")) for at, node in enumerate(given.list("messages"))
    ]
    if len({node.id for node in nodes}) < len(nodes):
        raise given.wrong("messages", "a list of messages of which each has an id of its own")
    try:
        return with_nodes(chat, nodes)
    except ValueError as error:
        raise BadChat(f"{given.place} is no chat: {error}.", hint=_HINT) from None


def _settings(given: _Fields) -> dict[str, Any]:
    """The settings, of which those that are used without asking are checked here."""
    settings = given.object("settings")
    inside = _Fields(settings, f"{given.place}.settings")
    for summary in inside.object(CUTS).values():
        if not _is_text(summary):
            raise inside.wrong(CUTS, "messages with the summary before each")
    inside.object(ENGINE)
    try:
        check(settings)
    except BadSettings as error:
        raise inside.wrong(SAMPLING, f"how replies may be made: {error.message}") from None
    return settings


def _read_node(given: _Fields) -> Node:
    role: Literal["user", "assistant"] = given.one_of("role", ("user", "assistant"))
    state: Literal["writing", "done", "partial"] = given.one_of("state", ("writing", "done", "partial"), "done")
    stats = given.take("stats", "an object or null", lambda value: value is None or isinstance(value, dict))
    try:
        kept = stats_of(stats) if stats is not None else None
        numbers = {name: value for name, value in asdict(kept).items() if name != "stop_reason"} if kept else {}
        if not all(map(_is_number, numbers.values())) or (kept and not isinstance(kept.stop_reason, str)):
            raise TypeError
    except TypeError:
        raise given.wrong("stats", "what a reply cost") from None
    return Node(
        given.text("id"),
        given.text_or_none("parent"),
        role,
        given.text("text"),
        given.moment("created"),
        "partial" if state == "writing" else state,
        given.text("model", ""),
        kept,
    )


def _linear(values: dict[str, Any]) -> Conversation:
    """A chat from a list of messages with role and content, as other programs write."""
    chat = Conversation(given_title=_Fields(values, "").text("title", ""))
    for at, message in enumerate(values["messages"]):
        given = _Fields(message, f"messages[{at}]")
        role = given.one_of("role", ("system", "developer", "user", "assistant"))
        text = given.text("content")
        if role in ("system", "developer"):
            chat.system = f"{chat.system}\n\n{text}".strip()
        else:
            chat.add(role, text)
    if not chat.nodes:
        raise BadChat("There are no messages in it.", hint=_HINT)
    return chat
