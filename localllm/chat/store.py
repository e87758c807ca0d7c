"""Chats on disk: one SQLite database, written as the words arrive.

Knows nothing of models or screens. Every method may be called from any thread; none may be called from an event loop,
because another app may hold the database for a moment. What a killed app was writing is found here when the database is
next opened, and marked as partial.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localllm.chat.conversation import Conversation, Node, conversation_of, title_of
from localllm.errors import BadStore
from localllm.runtime.types import Stats

APPLICATION_ID = 0x6C6C4C4D
"""Marks the file as ours in SQLite's header, so that a database of something else is never given our tables."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE chat (
            id TEXT PRIMARY KEY NOT NULL,
            title TEXT NOT NULL,
            system TEXT NOT NULL,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            deleted REAL,
            leaf TEXT REFERENCES message (id) DEFERRABLE INITIALLY DEFERRED
        )""",
        """CREATE TABLE message (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            id TEXT NOT NULL UNIQUE,
            chat TEXT NOT NULL REFERENCES chat (id) ON DELETE CASCADE,
            parent TEXT REFERENCES message (id) DEFERRABLE INITIALLY DEFERRED,
            role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
            text TEXT NOT NULL,
            created REAL NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('writing', 'done', 'partial')),
            writer TEXT,
            model TEXT NOT NULL,
            stats TEXT
        )""",
        "CREATE INDEX message_of_chat ON message (chat, number)",
        "CREATE INDEX message_of_parent ON message (parent)",
        "CREATE INDEX message_of_writer ON message (writer) WHERE writer IS NOT NULL",
        "CREATE INDEX chat_by_time ON chat (updated)",
    ),
)
"""The statements that lead from each schema version to the next; `user_version` counts those that were run."""

PATIENCE_S = 5.0
"""How long to wait for another app that is writing."""

UNDO_S = 24 * 3600.0
"""A deleted chat can be restored for this long; it is erased the next time the database is opened after that."""


@dataclass(frozen=True)
class ChatEntry:
    """A chat in the list: times in seconds since 1970, `messages` counts all of its branches."""

    id: str
    title: str
    created: float
    updated: float
    messages: int


class Store:
    """The database of chats. Open it with `Store.open`, which also repairs what a killed app left.

    All methods raise `BadStore`, and then have changed nothing.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the database at `path`, making it and its folder if there is none, and migrate an older schema.

        Raises:
            BadStore: see the class; a file that is damaged or not ours is not written to.
        """
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)
        store = cls(path, connection)
        try:
            store._prepare()
        except BaseException:
            connection.close()
            raise
        return store

    def _prepare(self) -> None:
        with _explained(self.path):
            # One transaction, so that a schema that another app is making is seen whole or not at all.
            self._connection.execute("BEGIN")
            try:
                self._check_version()
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._write_ahead()
            for pragma in ("synchronous = FULL", "foreign_keys = ON"):
                self._connection.execute(f"PRAGMA {pragma}")
        with self._transaction() as db:
            self._migrate(db)
            _mark_abandoned(db)
            db.execute("DELETE FROM chat WHERE deleted < ?", (time.time() - UNDO_S,))

    def _write_ahead(self) -> None:
        """Switch to WAL. SQLite does not wait here for another app that does the same in the same moment."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.01)

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _check_version(self) -> int:
        version, owner = self._pragma("user_version"), self._pragma("application_id")
        tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if owner != APPLICATION_ID and (owner or version or tables):
            raise BadStore(
                f"{self.path} is a database, but not one of chats.",
                hint="Move it away, or set LOCALLLM_HOME to another folder. Nothing in it was changed.",
            )
        if version > len(MIGRATIONS):
            raise BadStore(
                f"{self.path} was written by a newer localllm: schema {version}, and this one knows {len(MIGRATIONS)}.",
                hint="Upgrade localllm, or set LOCALLLM_HOME to another folder. Nothing in it was changed.",
            )
        return version

    def _migrate(self, db: sqlite3.Connection) -> None:
        # Read again inside the transaction: another app may have migrated in between.
        for script in MIGRATIONS[self._check_version() :]:
            for statement in script:
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, with the write lock from the start, so that two apps wait for each other."""
        with self._lock, _explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, _explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def chats(self) -> list[ChatEntry]:
        """All chats that are not deleted, the latest first."""
        rows = self._rows(
            """SELECT id, title, created, updated, (SELECT count(*) FROM message WHERE message.chat = chat.id)
               FROM chat WHERE deleted IS NULL ORDER BY updated DESC"""
        )
        return [ChatEntry(*row) for row in rows]

    def load(self, chat_id: str) -> Conversation:
        """The conversation with all its branches.

        Raises:
            BadStore: also when there is no such chat, or its tree is broken.
        """
        with self._lock:
            chats = self._rows("SELECT system, created, leaf FROM chat WHERE id = ?", chat_id)
            rows = self._rows(
                """SELECT id, parent, role, text, created, state, model, stats
                   FROM message WHERE chat = ? ORDER BY number""",
                chat_id,
            )
        if not chats:
            raise BadStore(f"There is no chat {chat_id} in {self.path}.", hint="Another window may have deleted it.")
        system, created, leaf = chats[0]
        try:
            nodes = [_node(row) for row in rows]
            return conversation_of(nodes, chat_id=chat_id, system=system, created=created, leaf=leaf)
        except (ValueError, TypeError, KeyError) as error:
            raise BadStore(
                f"The chat {chat_id} in {self.path} is damaged: {error}", hint="Other chats are not affected."
            ) from error

    def add(self, conversation: Conversation, node: Node) -> None:
        """Write a message that is new, as the one that is shown last, and with it the chat if it is new.

        Reads only what never changes of `conversation`: its id, system prompt and time.
        """
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO chat (id, title, system, created, updated) VALUES (?, ?, ?, ?, ?)",
                (conversation.id, title_of(node.text), conversation.system, conversation.created, node.created),
            )
            db.execute(
                """INSERT INTO message (id, chat, parent, role, text, created, state, writer, model, stats)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                (node.id, conversation.id, node.parent, node.role, node.text, node.created, *_changing(node)),
            )
            db.execute(
                "UPDATE chat SET leaf = ?, updated = ?, deleted = NULL WHERE id = ?",
                (node.id, node.created, conversation.id),
            )

    def update(self, node: Node) -> None:
        """Write what a message holds by now. Its text may only have grown."""
        state, writer, model, stats = _changing(node)
        with self._transaction() as db:
            db.execute(
                "UPDATE message SET text = ?, state = ?, writer = ?, model = ?, stats = ? WHERE id = ?",
                (node.text, state, writer, model, stats, node.id),
            )

    def show(self, chat_id: str, leaf: str | None) -> None:
        """Remember which message of the chat is shown last."""
        with self._transaction() as db:
            db.execute("UPDATE chat SET leaf = ? WHERE id = ?", (leaf, chat_id))

    def delete(self, chat_id: str) -> None:
        """Take the chat off the list. `restore` undoes it for a day; then its text is erased."""
        with self._transaction() as db:
            db.execute("UPDATE chat SET deleted = ? WHERE id = ?", (time.time(), chat_id))

    def restore(self, chat_id: str) -> None:
        """Undo `delete`."""
        with self._transaction() as db:
            db.execute("UPDATE chat SET deleted = NULL WHERE id = ?", (chat_id,))

    def prompts(self, limit: int) -> list[str]:
        """The last messages of the person in all chats, the oldest of them first, each text once."""
        rows = self._rows(
            """SELECT text FROM message JOIN chat ON chat.id = message.chat
               WHERE role = 'user' AND deleted IS NULL GROUP BY text ORDER BY max(number) DESC LIMIT ?""",
            limit,
        )
        return [row[0] for row in reversed(rows)]

    def close(self) -> None:
        """Close the database. Safe to call twice."""
        with self._lock:
            self._connection.close()


def _changing(node: Node) -> tuple[str, str | None, str, str | None]:
    """The columns of a message that a reply changes while it is written: state, writer, model, stats."""
    stats = None if node.stats is None else json.dumps(asdict(node.stats))
    return node.state, _this_process() if node.state == "writing" else None, node.model, stats


def _node(row: tuple[Any, ...]) -> Node:
    node_id, parent, role, text, created, state, model, stats = row
    return Node(
        node_id, parent, role, text, created, state, model, None if stats is None else Stats(**json.loads(stats))
    )


def _this_process() -> str:
    import psutil

    return f"{os.getpid()}:{psutil.Process().create_time():.2f}"


def _alive(writer: str) -> bool:
    """Whether the process that left this mark still runs; the time tells it from a later one with its number."""
    import psutil

    pid, _, created = writer.partition(":")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == created
    except (psutil.Error, ValueError):
        return False


def _mark_abandoned(db: sqlite3.Connection) -> None:
    """Replies whose writer is gone ended early: mark them so."""
    for (writer,) in db.execute("SELECT DISTINCT writer FROM message WHERE writer IS NOT NULL").fetchall():
        if not _alive(writer):
            db.execute("UPDATE message SET state = 'partial', writer = NULL WHERE writer = ?", (writer,))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into `BadStore`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        message, hint = _reason(path, error)
        raise BadStore(message, hint=hint) from error


def _reason(path: Path, error: sqlite3.Error | OSError) -> tuple[str, str]:
    """A message and a hint for an error; SQLite's error codes have names only from Python 3.11 on, its texts always."""
    text = str(error)
    if "locked" in text or "busy" in text:
        return f"{path} is locked by another program.", "Close the program that holds it, then try again."
    if "readonly" in text or "unable to open" in text or isinstance(error, PermissionError):
        return f"{path} cannot be written: {text}.", "Check the folder's permissions, or set LOCALLLM_HOME."
    if "full" in text:
        return f"{path} cannot grow: {text}.", "Free some space on that disk. What was written before is safe."
    if "not a database" in text or "malformed" in text:
        return (
            f"{path} is damaged: {text}.",
            "It was left as it is. Move it away to start afresh; `sqlite3 FILE .recover` may save what is in it.",
        )
    return f"{path} cannot be used: {text}.", "Nothing in it was changed."
