"""The tables of the database of chats, and how an older database becomes one of today.

A version that was ever released is never changed: what is new is a further script. The index for searching is not part
of it, because not every SQLite can make one: see `search`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from localllm.errors import BadStore

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
    (
        "ALTER TABLE chat ADD COLUMN pinned REAL",
        """ALTER TABLE chat ADD COLUMN title_by TEXT NOT NULL DEFAULT 'rule'
           CHECK (title_by IN ('rule', 'model', 'hand'))""",
        "ALTER TABLE chat ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'",
        # What the index for searching has of a message; an app with schema 1 that still runs need not know of it.
        "ALTER TABLE message ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX message_to_index ON message (number) WHERE indexed = 0",
        "CREATE TABLE unindexed (number INTEGER PRIMARY KEY)",
        """CREATE TRIGGER message_changed AFTER UPDATE OF text ON message WHEN old.indexed AND old.text IS NOT new.text
           BEGIN UPDATE message SET indexed = 0 WHERE number = new.number; END""",
        """CREATE TRIGGER message_erased AFTER DELETE ON message WHEN old.indexed
           BEGIN INSERT OR IGNORE INTO unindexed VALUES (old.number); END""",
    ),
    (
        # No reference: the chat of a draft may have no message yet.
        """CREATE TABLE draft (
            chat TEXT NOT NULL,
            writer TEXT NOT NULL,
            text TEXT NOT NULL,
            written REAL NOT NULL,
            PRIMARY KEY (chat, writer)
        )""",
        "CREATE TRIGGER chat_erased AFTER DELETE ON chat BEGIN DELETE FROM draft WHERE chat = old.id; END",
    ),
)
"""The statements that lead from each schema version to the next; `user_version` counts those that were run."""


def check_version(db: sqlite3.Connection, path: Path) -> int:
    """The schema version of the database, 0 for one that is empty.

    Raises:
        BadStore: it is not ours, or from a newer version.
    """
    version, owner = _pragma(db, "user_version"), _pragma(db, "application_id")
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner != APPLICATION_ID and (owner or version or tables):
        raise BadStore(
            f"{path} is a database, but not one of chats.",
            hint="Move it away, or set LOCALLLM_HOME to another folder. Nothing in it was changed.",
        )
    if version > len(MIGRATIONS):
        raise BadStore(
            f"{path} was written by a newer localllm: schema {version}, and this one knows {len(MIGRATIONS)}.",
            hint="Upgrade localllm, or set LOCALLLM_HOME to another folder. Nothing in it was changed.",
        )
    return version


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the database to the schema of today, inside the caller's transaction.

    Raises:
        BadStore: as `check_version`, which is asked again: another app may have migrated in between.
    """
    version = check_version(db, path)
    for script in MIGRATIONS[version:]:
        for statement in script:
            db.execute(statement)
    if version < len(MIGRATIONS):
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])
