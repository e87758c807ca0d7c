"""Which chats hold some words, in their titles or in any of their messages.

Words are found inside of others, whatever the case, so that Chinese and Japanese are searched as well. Looking into
every message is fast as long as there are not very many; from then on an index of trigrams (SQLite's FTS5) answers for
words of three characters and more. Shorter ones, and all where SQLite has no such index, are looked for in every
message. So are messages that are not indexed yet: a search indexes a few of them and leaves the rest to `index_some`,
so that none waits for all to be indexed, and writing a reply costs nothing more.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from localllm.chat.database import Database

TOKENIZER = "trigram"
"""That of FTS5 which finds words inside of others."""

TRIGRAM = 3
"""Characters that a word must have to be in the index."""

WORTH_AN_INDEX = 20_000
"""Messages. So many are looked through in a tenth of a second; their index takes three times their room on disk."""

BATCH = 200
"""Messages that are indexed in one transaction: others that write wait no longer than that takes."""

BEFORE, AFTER = 12, 96
"""Characters of an excerpt before and after the beginning of what was found."""

_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})(.*)$", re.MULTILINE)
"""A line that begins or ends a block of code in Markdown; the group is what it says, such as the language."""

_WORD = re.compile(r'"([^"]+)"|(\S+)')


@dataclass(frozen=True)
class Hit:
    """A chat that holds all words: the last message with the longest of them, and what it says there.

    `message` is None, and `excerpt` empty, where only the title holds the words.
    """

    chat: str
    message: str | None = None
    excerpt: str = ""


def words_of(text: str) -> list[str]:
    """What is looked for: words, and what stands in double quotes as it is there, the longest first."""
    found = {(quoted or word).casefold() for quoted, word in _WORD.findall(text)}
    return sorted((word for word in found if word.strip()), key=lambda word: (-len(word), word))


class Search:
    """Questions to the database. All methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.function("holds", 2, lambda text, word: word in text.casefold())
        self._has_index = self._make_index()

    @property
    def has_index(self) -> bool:
        """Whether this SQLite can keep one."""
        return self._has_index

    def _make_index(self) -> bool:
        with self._database.transaction() as db:
            try:
                db.execute(
                    f"CREATE VIRTUAL TABLE IF NOT EXISTS message_index USING fts5(text, tokenize = '{TOKENIZER}')"
                )
                db.execute("SELECT rowid FROM message_index LIMIT 1").fetchone()  # a module that is not there tells now
            except sqlite3.OperationalError as error:
                if "no such module" in str(error) or "tokenizer" in str(error):
                    return False
                raise
            return True

    def forget_erased(self) -> None:
        """Take out of the index what is no longer in the database, and its words with it."""
        if self._has_index:
            with self._database.transaction() as db:
                db.execute("DELETE FROM message_index WHERE rowid IN (SELECT number FROM unindexed)")
                # FTS5 only notes what is deleted until it merges. Its option secure-delete would not, but before
                # 3.42 SQLite refuses to open an index that was ever written with it.
                db.execute("INSERT INTO message_index (message_index) VALUES ('optimize')")
                db.execute("DELETE FROM unindexed")

    def index_some(self) -> bool:
        """Index what was written last, except replies that are being written. Whether there is more to index."""
        written = self._database.rows("SELECT coalesce(max(number), 0) FROM message")[0][0]
        if not self._has_index or written < WORTH_AN_INDEX:
            return False
        with self._database.transaction() as db:
            rows = db.execute(
                """SELECT number, text FROM message WHERE indexed = 0 AND state <> 'writing'
                   ORDER BY number DESC LIMIT ?""",
                (BATCH,),
            ).fetchall()
            db.executemany("DELETE FROM message_index WHERE rowid = ?", [(number,) for number, _ in rows])
            db.executemany(
                "INSERT INTO message_index (rowid, text) VALUES (?, ?)",
                # FTS5 reads a text up to its first NUL.
                [(number, text.casefold().replace("\0", " ")) for number, text in rows],
            )
            db.executemany("UPDATE message SET indexed = 1 WHERE number = ?", [(number,) for number, _ in rows])
        return len(rows) == BATCH

    def find(self, text: str) -> list[Hit]:
        """The chats that are not deleted and hold every word of `text`, the latest first; none for no words."""
        words = words_of(text)
        if not words:
            return []
        self.index_some()
        with self._database.reading():
            return self._find(words)

    def _find(self, words: list[str]) -> list[Hit]:
        chats = self._database.rows("SELECT id, title FROM chat WHERE deleted IS NULL ORDER BY updated DESC")
        titles = {chat: title.casefold() for chat, title in chats}
        places = {word: self._messages_with(word) for word in words}
        hits = []
        for chat, title in titles.items():
            if all(chat in places[word] or word in title for word in words):
                word = next((word for word in words if chat in places[word]), None)
                hits.append(Hit(chat) if word is None else self._hit(chat, places[word][chat], word))
        return hits

    def _messages_with(self, word: str) -> dict[str, int]:
        """The last message with the word, by chat."""
        if self._has_index and len(word) >= TRIGRAM and "\0" not in word:
            rows = self._database.rows(
                """SELECT chat, max(number) FROM message_index JOIN message ON number = message_index.rowid
                   WHERE message_index MATCH ? GROUP BY chat""",
                '"' + word.replace('"', '""') + '"',
            )
            beside = "indexed = 0 AND"
        else:
            rows, beside = [], ""
        rows += self._database.rows(
            f"SELECT chat, max(number) FROM message WHERE {beside} holds(text, ?) GROUP BY chat", word
        )
        return dict(sorted(rows, key=lambda row: row[1]))

    def _hit(self, chat: str, number: int, word: str) -> Hit:
        ((message, text),) = self._database.rows("SELECT id, text FROM message WHERE number = ?", number)
        return Hit(chat, message, excerpt(text, word))


def excerpt(text: str, word: str) -> str:
    """What `text` says around `word`, on one line, without the fences of code."""
    text = _FENCE.sub(lambda fence: fence[1] if word in fence[1].casefold() else "", text)
    at = max(0, text.casefold().find(word))  # off by the few characters that casefold() makes longer
    start = max(0, at - BEFORE)
    if start:
        space = text.find(" ", start, at)
        start = space + 1 if space >= 0 else start
    cut = " ".join(text[start : at + AFTER].split())
    return f"{'…' if start else ''}{cut}{'…' if at + AFTER < len(text) else ''}"
