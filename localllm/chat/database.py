"""One SQLite file, shared with other apps: transactions that wait for each other, and errors in words.

Knows nothing of what is in it.
"""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localllm.chat.printable import bad_text
from localllm.errors import BadStore

PATIENCE_S = 5.0
"""How long to wait for another app that is writing."""

LEFT_OPEN_S = 0.0005
"""So long after each transaction the lock is free, for who else may wait for it."""

_ELSEWHERE = "Check the folder's permissions, or set LOCALLLM_HOME."
_ROOM = "Free some space on that disk. What was written before is safe."


class Database:
    """An open file. All methods may be called from any thread, and raise `BadStore`, having changed nothing;
    `BadText` for a text that is no valid UTF-8."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False)

    def prepare(self, check: Callable[[sqlite3.Connection], object]) -> None:
        """Make it durable and strict, once `check` found that it may be written to."""
        with self._lock, _explained(self.path):
            # One transaction, so that a schema that another app is making is seen whole or not at all.
            self._connection.execute("BEGIN")
            try:
                check(self._connection)
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._patiently("PRAGMA journal_mode = WAL")
            # What was erased is overwritten, for people who erase a chat mean it.
            for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
                self._connection.execute(f"PRAGMA {pragma}")

    def _patiently(self, statement: str) -> None:
        """Run what another app may be in the way of, trying every few milliseconds.

        SQLite itself does not wait with a switch to WAL, and tries for a lock only ten times a second: an app that
        writes piece after piece leaves it for such short moments that another would never get it.
        """
        give_up = time.monotonic() + PATIENCE_S
        self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            while True:
                try:
                    self._connection.execute(statement)
                    return
                except sqlite3.OperationalError as error:
                    if not _is_locked(error) or time.monotonic() > give_up:
                        raise
                    time.sleep(0.002)
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {round(PATIENCE_S * 1000)}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, with the write lock from the start, so that two apps wait for each other."""
        with self._lock, _explained(self.path):
            self._patiently("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            # Whoever waits is awake only now and then, and on a busy core never while this one is.
            time.sleep(LEFT_OPEN_S)

    @contextmanager
    def reading(self) -> Iterator[Database]:
        """One state of the database for several questions."""
        with self._lock, _explained(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a question finds."""
        with self._lock, _explained(self.path):
            return self._connection.execute(query, values).fetchall()

    def overwrite(self) -> None:
        """Write the file anew: rows that were moved leave copies, which SQLite does not overwrite with what it erases.
        Takes a second for 200 MB, and as much room for that long.

        Raises:
            BadStore: also when another program reads what was in it before; that stays beside it until nobody does.
        """
        with self._lock, _explained(self.path):
            self._patiently("VACUUM")
            ((busy, _, _),) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        if busy:
            raise BadStore(
                f"{self.path}-wal still holds what was erased: another program is reading it.",
                hint="Close the program, then run `localllm chats rm --now`.",
            )

    def function(self, name: str, arguments: int, function: Callable[..., bool]) -> None:
        """Let SQL call `function`, whose value depends on nothing but its arguments."""
        with self._lock, _explained(self.path):
            self._connection.create_function(name, arguments, function, deterministic=True)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            self._connection.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into `BadStore`."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        message, hint = _reason(path, error)
        raise BadStore(message, hint=hint) from error
    except UnicodeEncodeError as error:
        raise bad_text(error) from None


def _is_locked(error: Exception) -> bool:
    """By its text, which SQLite's errors always have; their codes have names only from Python 3.11 on."""
    return "locked" in str(error) or "busy" in str(error)


def _reason(path: Path, error: sqlite3.Error | OSError) -> tuple[str, str]:
    """A message and a hint for an error."""
    if isinstance(error, OSError):
        return _reason_of_system(path, error)
    text = str(error)
    if _is_locked(error):
        return f"{path} is locked by another program.", "Close the program that holds it, then try again."
    if "readonly" in text or "unable to open" in text:
        return f"{path} cannot be written: {text}.", _ELSEWHERE
    if "full" in text:
        return f"{path} cannot grow: {text}.", _ROOM
    if "not a database" in text or "malformed" in text:
        return (
            f"{path} is damaged: {text}.",
            "It was left as it is. Move it away to start afresh; `sqlite3 FILE .recover` may save what is in it.",
        )
    if "I/O" in text:  # also where the disk has no room for the files that SQLite puts beside it
        return f"{path} cannot be used: {text}.", "Its disk is full or fails. Nothing in it was changed."
    return f"{path} cannot be used: {text}.", "Nothing in it was changed."


def _reason_of_system(path: Path, error: OSError) -> tuple[str, str]:
    """The same where there is no database yet to open: it may be a folder above it that is in the way."""
    text = error.strerror or str(error)
    if error.filename not in (None, str(path)):
        text = f"{text}: {error.filename}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path} cannot grow: {text}.", _ROOM
    return f"{path} cannot be written: {text}.", _ELSEWHERE
