"""The chats of this person, opened; what is left of deleted ones, also beside the database, is erased in time."""

from __future__ import annotations

import time

from localllm import paths
from localllm.chat.store import UNDO_DAYS, Store
from localllm.runtime import snapshots


def open_chats() -> Store:
    """Open the person's chats. KV snapshots that no chat used for as long as a deletion can be undone are removed.

    Raises:
        BadStore: as `Store.open`.
    """
    store = Store.open(paths.chats_file())
    snapshots.remove_unused(paths.snapshots_dir(), time.time() - UNDO_DAYS * 86400)
    return store


def erase(store: Store, chats: list[str]) -> None:
    """Erase chats for good, with all KV snapshots and what earlier ones left in the file.

    Raises:
        BadStore: also when another program prevents that text is overwritten; the chats are erased all the same.
    """
    for chat in chats:
        store.erase(chat)
    snapshots.remove_unused(paths.snapshots_dir())
    store.wipe()
