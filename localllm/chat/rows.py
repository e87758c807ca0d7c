"""A conversation as rows of the database, and rows as what they stand for.

Knows the columns; opens no transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from localllm.chat.conversation import Conversation, Node
from localllm.chat.costs import stats_of
from localllm.chat.database import Database
from localllm.chat.writers import this_process


@dataclass(frozen=True)
class ChatEntry:
    """A chat in the list: times in seconds since 1970, `messages` counts all of its branches."""

    id: str
    title: str
    created: float
    updated: float
    messages: int
    pinned: bool = False


def begin(db: sqlite3.Connection, conversation: Conversation, title: str, now: float) -> bool:
    """Write what a chat has beside messages. Whether it is new."""
    done = db.execute(
        """INSERT OR IGNORE INTO chat (id, title, title_by, system, settings, created, updated, pinned)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            conversation.id,
            conversation.given_title or title,
            "hand" if conversation.given_title else "rule",
            conversation.system,
            json.dumps(conversation.settings),
            conversation.created,
            now,
            now if conversation.pinned else None,
        ),
    )
    return done.rowcount > 0


def insert(db: sqlite3.Connection, chat_id: str, nodes: Iterable[Node]) -> None:
    """Write messages of a chat; one that is there already stays as it is."""
    db.executemany(
        """INSERT INTO message (id, chat, parent, role, text, created, state, writer, model, stats)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING""",
        ((node.id, chat_id, node.parent, node.role, node.text, node.created, *changing(node)) for node in nodes),
    )


def changing(node: Node) -> tuple[str, str | None, str, str | None]:
    """The columns of a message that a reply changes while it is written: state, writer, model, stats."""
    stats = None if node.stats is None else json.dumps(asdict(node.stats))
    return node.state, this_process() if node.state == "writing" else None, node.model, stats


def entries(database: Database, which: str) -> list[ChatEntry]:
    """The chats that the SQL condition `which` is true of, in its order."""
    rows = database.rows(
        f"""SELECT id, title, created, updated,
                   (SELECT count(*) FROM message WHERE message.chat = chat.id), pinned IS NOT NULL
            FROM chat WHERE {which}"""
    )
    return [
        ChatEntry(chat_id, title, created, updated, messages, bool(pinned))
        for chat_id, title, created, updated, messages, pinned in rows
    ]


def message(row: tuple[Any, ...]) -> Node:
    """A message from its columns, but for its chat and its writer, in the order of the table."""
    node_id, parent, role, text, created, state, model, stats = row
    return Node(node_id, parent, role, text, created, state, model, stats_of(json.loads(stats)) if stats else None)
