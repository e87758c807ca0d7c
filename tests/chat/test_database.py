"""Files that are no database of chats, or cannot be used: each is left as it is, and said so."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from localllm.chat import database as database_module
from localllm.chat.schema import MIGRATIONS
from localllm.chat.store import Store
from localllm.errors import BadStore
from tests.chat.talking import talk


def refused(path: Path, message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(BadStore, match=message) as caught:
        Store.open(path)
    assert caught.value.hint
    assert str(path) in caught.value.message
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"GGUF" + bytes(range(256)) * 40)
    refused(path, "damaged")


def test_a_torn_database_is_left_as_it_is(path: Path) -> None:
    store = Store.open(path)
    talk(store, "text " * 5000)
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    refused(path, "damaged")


def test_a_database_of_something_else_is_not_given_our_tables(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    refused(path, "not one of chats")


def test_a_newer_schema_is_refused(path: Path) -> None:
    Store.open(path).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()
    refused(path, "newer localllm")


def test_a_database_that_another_program_holds_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "PATIENCE_S", 0.05)
    store = Store.open(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(BadStore, match="locked"):
        talk(store)
    holder.execute("ROLLBACK")
    talk(store)
    assert len(store.chats()) == 1
    holder.close()
    store.close()


@pytest.mark.parametrize("name", ["busy", "full"])
def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    with pytest.raises(BadStore, match=rf"cannot be written: [\w ]+: {tmp_path / name}\.") as caught:
        Store.open(tmp_path / name / "chats.sqlite3")
    assert "LOCALLLM_HOME" in caught.value.hint


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_written(path: Path) -> None:
    # A limit on the size of files makes SQLite's writes fail as a full disk does, without needing one.
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from localllm.chat.conversation import Conversation
        from localllm.chat.store import Store
        from localllm.errors import BadStore

        store = Store.open(Path(sys.argv[1]))
        chat = Conversation()
        store.add(chat, chat.add_user("kept"))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        try:
            store.add(chat, chat.add_user("x" * 1_000_000))
        except BadStore as error:
            print(error.message)
        """)
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert str(path) in done.stdout
    store = Store.open(path)
    (entry,) = store.chats()
    assert [node.text for node in store.load(entry.id).path()] == ["kept"]
    store.close()


@pytest.mark.slow
def test_a_disk_without_room_for_the_files_beside_it_says_so(path: Path) -> None:
    Store.open(path).close()
    script = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from localllm.chat.store import Store
        from localllm.errors import BadStore

        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        try:
            Store.open(Path(sys.argv[1]))
        except BadStore as error:
            print(error.hint)
        """)
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "disk is full" in done.stdout
    Store.open(path).close()


def test_a_broken_tree_names_the_chat_and_spares_the_others(store: Store) -> None:
    broken, whole = talk(store, "broken"), talk(store, "whole")
    with store._database.transaction() as db:
        db.execute("UPDATE message SET stats = '{}' WHERE chat = ? AND role = 'assistant'", (broken.id,))
    with pytest.raises(BadStore, match=broken.id):
        store.load(broken.id)
    assert store.load(whole.id).path()[0].text == "whole"


def test_the_file_is_private(store: Store, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
    assert path.with_name(f"{path.name}-wal").stat().st_mode & 0o077 == 0
