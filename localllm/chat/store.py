"""Chats on disk: one SQLite database, written as the words arrive.

Knows nothing of models or screens. Every method may be called from any thread; none may be called from an event loop,
because another app may hold the database for a moment. What a killed app was writing is found here when the database is
next opened, and marked as partial.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from localllm.chat.conversation import Conversation, Node, title_of, with_nodes
from localllm.chat.database import Database
from localllm.chat.drafts import NEW_CHAT, Drafts, sent
from localllm.chat.rows import ChatEntry, begin, changing, entries, insert, message
from localllm.chat.schema import check_version, migrate
from localllm.chat.search import Hit, Search
from localllm.chat.writers import is_alive
from localllm.errors import BadStore

UNDO_DAYS = 30
"""A deleted chat can be restored for this long; it is erased the next time the database is opened after that."""


class Store:
    """The database of chats. Open it with `Store.open`, which also repairs what a killed app left.

    All methods raise `BadStore`, and `BadText` for a text that is no valid UTF-8; then they have changed nothing.
    """

    def __init__(self, database: Database, recovered: frozenset[str] = frozenset()) -> None:
        self.recovered = recovered
        """The chats in which a killed app was writing a reply, which was marked as partial now."""
        self.drafts = Drafts(database)
        self._database = database
        self._search: Search | None = None

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the database at `path`, making it and its folder if there is none, and migrate an older schema.

        Raises:
            BadStore: see the class; a file that is damaged or not ours is not written to.
        """
        database = Database(path)
        try:
            database.prepare(lambda db: check_version(db, path))
            with database.transaction() as db:
                migrate(db, path)
                recovered = _mark_abandoned(db)
                expired = db.execute("DELETE FROM chat WHERE deleted < ?", (time.time() - UNDO_DAYS * 86400,)).rowcount
            store = cls(database, recovered)
            if expired or database.rows("SELECT EXISTS (SELECT 1 FROM unindexed)")[0][0]:
                with contextlib.suppress(BadStore):  # another app is busy with it, or the disk is full: some other day
                    store.wipe()
        except BaseException:
            database.close()
            raise
        return store

    @property
    def path(self) -> Path:
        """The file."""
        return self._database.path

    def chats(self) -> list[ChatEntry]:
        """All chats that are not deleted: those that are pinned, then the others, the latest first."""
        return entries(self._database, "deleted IS NULL ORDER BY pinned IS NULL, updated DESC")

    def deleted(self) -> list[ChatEntry]:
        """The chats that can be restored, the last deleted first."""
        return entries(self._database, "deleted NOT NULL ORDER BY deleted DESC")

    def find(self, words: str) -> list[Hit]:
        """The chats whose title or messages hold all of the words, the latest first; see `search`."""
        return self._searching().find(words)

    def index_some(self) -> bool:
        """Make searching faster, for a moment. Whether there is more to do."""
        return self._searching().index_some()

    def load(self, chat_id: str) -> Conversation:
        """The conversation with all its branches.

        Raises:
            BadStore: also when there is no such chat, or its tree is broken.
        """
        with self._database.reading() as database:
            chats = database.rows(
                """SELECT system, created, leaf, CASE title_by WHEN 'rule' THEN '' ELSE title END, settings,
                          pinned IS NOT NULL FROM chat WHERE id = ?""",
                chat_id,
            )
            rows = database.rows(
                """SELECT id, parent, role, text, created, state, model, stats
                   FROM message WHERE chat = ? ORDER BY number""",
                chat_id,
            )
        if not chats:
            raise BadStore(f"There is no chat {chat_id} in {self.path}.", hint="Another window may have deleted it.")
        system, created, leaf, title, settings, pinned = chats[0]
        try:
            kept = Conversation(
                chat_id, system, created, leaf, given_title=title, settings=json.loads(settings), pinned=bool(pinned)
            )
            return with_nodes(kept, map(message, rows))
        except (ValueError, TypeError, KeyError) as error:
            raise BadStore(
                f"The chat {chat_id} in {self.path} is damaged: {error}", hint="Other chats are not affected."
            ) from error

    def add(self, conversation: Conversation, node: Node, *, late: bool = False) -> None:
        """Write a message as the one that is shown last, and with it the chat if it is new.

        One that is there already stays as it is. A chat that was deleted is restored, except by a message that comes
        `late`: the chat may have been deleted since it was said.

        If another app erased the chat meanwhile, what came before the message is written again.
        """
        with self._database.transaction() as db:
            is_first = False
            if begin(db, conversation, title_of(node.text), node.created):
                # Copied in one step, for the app may add to it in this moment. What came later is written later.
                nodes = list(conversation.nodes.values())
                before = list(takewhile(lambda known: known.id != node.id, nodes))
                insert(db, conversation.id, before)
                is_first = not before
            insert(db, conversation.id, [node])
            if node.role == "user":
                sent(db, NEW_CHAT if is_first else conversation.id, node.created)
            db.execute(
                "UPDATE chat SET leaf = ?, updated = ?, deleted = CASE WHEN ? THEN deleted END WHERE id = ?",
                (node.id, node.created, late, conversation.id),
            )

    def add_whole(self, conversation: Conversation, *, updated: float | None = None) -> None:
        """Write a chat that is new with all its messages: a fork, or one that is imported. `updated` None is now.

        Raises:
            BadStore: also when there is a chat with this id.
        """
        with self._database.transaction() as db:
            if not begin(db, conversation, conversation.title, time.time() if updated is None else updated):
                raise BadStore(f"There is a chat {conversation.id} already.", hint="It was left as it is.")
            insert(db, conversation.id, conversation.nodes.values())
            db.execute("UPDATE chat SET leaf = ? WHERE id = ?", (conversation.leaf, conversation.id))

    def update(self, node: Node) -> bool:
        """Write what a message holds by now. Its text may only have grown. False if another app erased it."""
        state, writer, model, stats = changing(node)
        with self._database.transaction() as db:
            done = db.execute(
                "UPDATE message SET text = ?, state = ?, writer = ?, model = ?, stats = ? WHERE id = ?",
                (node.text, state, writer, model, stats, node.id),
            )
        return done.rowcount > 0

    def show(self, chat_id: str, leaf: str | None) -> None:
        """Remember which message of the chat is shown last."""
        self._set(chat_id, leaf=leaf)

    def rename(self, chat_id: str, title: str) -> None:
        """Give the chat a title that stays; an empty one makes it automatic again."""
        if title.strip():
            self._set(chat_id, title=" ".join(title.split()), title_by="hand")
            return
        with self._database.transaction() as db:
            rows = db.execute("SELECT text FROM message WHERE chat = ? ORDER BY number LIMIT 1", (chat_id,)).fetchall()
            title = title_of(rows[0][0]) if rows else ""
            db.execute("UPDATE chat SET title = ?, title_by = 'rule' WHERE id = ?", (title, chat_id))

    def suggest_title(self, chat_id: str, title: str) -> None:
        """Give the chat a title that a model made, unless a person gave it one."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE chat SET title = ?, title_by = 'model' WHERE id = ? AND title_by <> 'hand'",
                (title_of(title), chat_id),
            )

    def pin(self, chat_id: str, pinned: bool) -> None:
        """Keep the chat at the top of the list, or no longer."""
        self._set(chat_id, pinned=time.time() if pinned else None)

    def set_system(self, chat_id: str, system: str) -> None:
        """Change the system prompt."""
        self._set(chat_id, system=system)

    def set_settings(self, chat_id: str, settings: Mapping[str, Any]) -> None:
        """Keep the settings of the chat: anything that JSON can say. One that has no message yet is not on disk."""
        self._set(chat_id, settings=json.dumps(settings))

    def delete(self, chat_id: str) -> None:
        """Take the chat off the list. `restore` undoes it for `UNDO_DAYS`; then its text is erased."""
        self._set(chat_id, deleted=time.time())

    def restore(self, chat_id: str) -> None:
        """Undo `delete`."""
        self._set(chat_id, deleted=None)

    def erase(self, chat_id: str) -> None:
        """Erase the chat now and for good. `wipe` overwrites what the file still holds of its text."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM chat WHERE id = ?", (chat_id,))

    def wipe(self) -> None:
        """See to it that the file holds no text of chats that were erased. Waits for others, and takes its time.

        Raises:
            BadStore: also when another program prevents it; `wipe` may be called again.
        """
        self._searching().forget_erased()
        self._database.overwrite()

    def holds(self, chat_id: str, message_ids: Iterable[str]) -> bool:
        """Whether there is a chat with this id, deleted or not, or one that has any of these messages."""
        return bool(
            self._database.rows(
                """SELECT 1 FROM chat WHERE id = ?
                   UNION ALL SELECT 1 FROM message WHERE id IN (SELECT value FROM json_each(?)) LIMIT 1""",
                chat_id,
                json.dumps(list(message_ids)),
            )
        )

    def prompts(self, limit: int) -> list[str]:
        """The last messages of the person in all chats, the oldest of them first, each text once."""
        rows = self._database.rows(
            """SELECT text FROM message JOIN chat ON chat.id = message.chat
               WHERE role = 'user' AND deleted IS NULL GROUP BY text ORDER BY max(number) DESC LIMIT ?""",
            limit,
        )
        return [row[0] for row in reversed(rows)]

    def close(self) -> None:
        """Close the database. Safe to call twice."""
        self._database.close()

    def _set(self, chat_id: str, **columns: object) -> None:
        assignments = ", ".join(f"{name} = ?" for name in columns)
        with self._database.transaction() as db:
            db.execute(f"UPDATE chat SET {assignments} WHERE id = ?", (*columns.values(), chat_id))

    def _searching(self) -> Search:
        if self._search is None:
            self._search = Search(self._database)
        return self._search


def _mark_abandoned(db: sqlite3.Connection) -> frozenset[str]:
    """Replies whose writer is gone ended early: mark them so. Returns their chats."""
    chats: set[str] = set()
    for (writer,) in db.execute("SELECT DISTINCT writer FROM message WHERE writer IS NOT NULL").fetchall():
        if not is_alive(writer):
            chats.update(row[0] for row in db.execute("SELECT chat FROM message WHERE writer = ?", (writer,)))
            db.execute("UPDATE message SET state = 'partial', writer = NULL WHERE writer = ?", (writer,))
    return frozenset(chats)
