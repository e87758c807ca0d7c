"""What was being written and not sent, a draft per chat, as it outlives an app that is killed.

Each app writes rows of its own, so that two with one chat never take each other's words; those of an app that is gone
belong to whoever opens the chat next. The empty id stands for a chat that has no message yet.
"""

from __future__ import annotations

import sqlite3

from localllm.chat.attachments import joined, split
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
        """The draft of a chat, which is this app's from now on: its own, and those of apps that are gone.

        A new chat gets those of chats that were erased, too, or never reached the disk: nobody could open them.
        """
        mark = this_process()
        with self._database.transaction() as db:
            rows = db.execute(
                """SELECT chat, writer, text, written FROM draft
                   WHERE chat = ?1 OR (?1 = ?2 AND chat NOT IN (SELECT id FROM chat)) ORDER BY written""",
                (chat_id, NEW_CHAT),
            ).fetchall()
            ours = [row for row in rows if row[:2] == (chat_id, mark) or not is_alive(row[1])]
            if [row[:2] for row in ours] in ([], [(chat_id, mark)]):
                return "".join(row[2] for row in ours)
            text = together([row[2] for row in ours])
            db.executemany("DELETE FROM draft WHERE chat = ? AND writer = ?", [row[:2] for row in ours])
            _put(db, chat_id, mark, text, ours[-1][3])
            return text


def sent(db: sqlite3.Connection, chat_id: str, when: float) -> None:
    """A message of this app is on disk: what was written up to then is no draft any more."""
    db.execute(
        "DELETE FROM draft WHERE chat = ? AND writer = ? AND written <= ?",
        (chat_id, this_process(), when),
    )


def together(drafts: list[str]) -> str:
    """Several drafts as one: files stand before words, so that they are found as files again."""
    parts = [split(draft) for draft in dict.fromkeys(drafts)]
    return joined([file for files, _ in parts for file in files], "\n\n".join(said for _, said in parts if said))


def _put(db: sqlite3.Connection, chat_id: str, mark: str, text: str, written: float) -> None:
    db.execute("INSERT OR REPLACE INTO draft VALUES (?, ?, ?, ?)", (chat_id, mark, text, written))
