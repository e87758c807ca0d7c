"""What was being written and not sent, a draft per chat, as it outlives an app that is killed.

Each app writes rows of its own, so that two with one chat never take each other's words; those of an app that is gone
belong to whoever opens the chat next. The empty id stands for a chat that has no message yet.
"""

from __future__ import annotations

import sqlite3

from localllm.chat.database import Database
from localllm.chat.writers import is_alive, this_process

NEW_CHAT = ""
"""In place of the id of a chat that is not on disk."""


class Drafts:
    """The drafts in a database. Its methods raise what those of `Database` do."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, chat_id: str, text: str, written: float) -> None:
        """Keep what this app has as the draft of a chat, written at that time; nothing is kept of an empty one."""
        mark = this_process()
        with self._database.transaction() as db:
            if text:
                _put(db, chat_id, mark, text, written)
            else:
                db.execute("DELETE FROM draft WHERE chat = ? AND writer = ?", (chat_id, mark))

    def take(self, chat_id: str) -> str:
        """The draft of a chat, which is this app's from now on: its own, and those of apps that are gone."""
        mark = this_process()
        with self._database.transaction() as db:
            query = "SELECT writer, text, written FROM draft WHERE chat = ? ORDER BY written"
            rows = db.execute(query, (chat_id,)).fetchall()
            ours = [row for row in rows if row[0] == mark or not is_alive(row[0])]
            if [row[0] for row in ours] in ([], [mark]):
                return "".join(row[1] for row in ours)
            text = "\n\n".join(dict.fromkeys(row[1] for row in ours))
            db.executemany("DELETE FROM draft WHERE chat = ? AND writer = ?", [(chat_id, row[0]) for row in ours])
            _put(db, chat_id, mark, text, ours[-1][2])
            return text


def sent(db: sqlite3.Connection, chat_id: str, when: float) -> None:
    """A message of this app is on disk: what was written up to then is no draft any more."""
    db.execute(
        "DELETE FROM draft WHERE chat IN (?, ?) AND writer = ? AND written <= ?",
        (chat_id, NEW_CHAT, this_process(), when),
    )


def _put(db: sqlite3.Connection, chat_id: str, mark: str, text: str, written: float) -> None:
    db.execute("INSERT OR REPLACE INTO draft VALUES (?, ?, ?, ?)", (chat_id, mark, text, written))
