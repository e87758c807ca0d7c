"""Chats on disk, on real files: what survives a kill, what two apps do to each other, what a bad file gets."""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.chat import store as store_module
from localllm.chat.conversation import Conversation, Node
from localllm.chat.store import MIGRATIONS, UNDO_S, Store
from localllm.errors import BadStore
from localllm.runtime.types import Stats

STATS = Stats(10, 4, 3, 0.1, 100.0, 30.0, "end")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "chats.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store.open(path)
    yield opened
    opened.close()


def talk(store: Store, question: str = "Hi", answer: str = "Hello.") -> Conversation:
    chat = Conversation()
    store.add(chat, chat.add_user(question))
    reply = chat.add_reply(chat.path()[-1].id, model="m")
    store.add(chat, chat.extend(reply.id, answer))
    store.update(chat.finish(reply.id, STATS))
    return chat


def test_a_conversation_comes_back_as_it_was(store: Store, path: Path) -> None:
    chat = Conversation(system="Be brief.")
    question = chat.add_user("Hi")
    store.add(chat, question)
    for answer in ("Hello.", "東京 🗼\n\n\x00"):
        reply = chat.add_reply(question.id, model="m")
        store.add(chat, chat.extend(reply.id, answer))
        store.update(chat.finish(reply.id, STATS))
    store.close()
    again = Store.open(path)
    assert again.load(chat.id) == chat
    again.close()


def test_the_list_names_the_latest_chat_first(store: Store) -> None:
    talk(store, "first question")
    second = talk(store, "second question")
    assert [(entry.title, entry.messages) for entry in store.chats()] == [
        ("second question", 2),
        ("first question", 2),
    ]
    assert store.chats()[0].id == second.id


def test_the_message_that_is_shown_is_remembered(store: Store) -> None:
    chat = talk(store)
    question = chat.path()[0]
    other = chat.add_reply(question.id)
    store.add(chat, chat.extend(other.id, "Hey."))
    assert store.load(chat.id).leaf == other.id
    first = chat.children(question.id)[0]
    store.show(chat.id, first.id)
    assert store.load(chat.id).leaf == first.id


def test_a_deleted_chat_can_be_restored_and_is_erased_after_a_day(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = talk(store, "secret")
    store.delete(chat.id)
    assert store.chats() == []
    assert store.prompts(10) == []
    store.restore(chat.id)
    assert len(store.chats()) == 1
    store.delete(chat.id)
    Store.open(path).close()
    store.restore(chat.id)
    store.delete(chat.id)
    monkeypatch.setattr(store_module, "UNDO_S", -UNDO_S)
    Store.open(path).close()
    with pytest.raises(BadStore, match="no chat"):
        store.load(chat.id)


def test_a_message_in_a_deleted_chat_brings_it_back(store: Store) -> None:
    chat = talk(store)
    store.delete(chat.id)
    store.add(chat, chat.add_user("more"))
    assert [entry.messages for entry in store.chats()] == [3]


def test_a_chat_longer_than_sqlites_trigger_depth_is_erased(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Conversation()
    store.add(chat, chat.add_user("0"))
    nodes = [chat.add_user(str(number)) for number in range(1, 1500)]
    with store._transaction() as db:
        db.executemany(
            "INSERT INTO message (id, chat, parent, role, text, created, state, model)"
            " VALUES (?, ?, ?, 'user', ?, 0, 'done', '')",
            [(node.id, chat.id, node.parent, node.text) for node in nodes],
        )
    assert len(store.load(chat.id).nodes) == 1500
    store.delete(chat.id)
    monkeypatch.setattr(store_module, "UNDO_S", -UNDO_S)
    Store.open(path).close()
    assert store._rows("SELECT count(*) FROM message") == [(0,)]


def test_prompts_come_oldest_first_and_once(store: Store) -> None:
    for question in ("one", "two", "one", "three"):
        talk(store, question)
    assert store.prompts(10) == ["two", "one", "three"]
    assert store.prompts(2) == ["one", "three"]


WRITER = """
import sys
from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from pathlib import Path

store = Store.open(Path(sys.argv[1]))
chat = Conversation()
store.add(chat, chat.add_user("Count."))
reply = chat.add_reply(chat.path()[-1].id)
store.add(chat, chat.extend(reply.id, "0"))
number = 0
while True:
    number += 1
    store.update(chat.extend(reply.id, f" {number}"))
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_writer_loses_at_most_the_piece_in_flight(path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    seen = 0
    while seen < 20:
        seen = int(writer.stdout.readline())
    beside = Store.open(path)
    (entry,) = beside.chats()
    assert beside.load(entry.id).path()[-1].state == "writing", "a living writer's reply was taken for abandoned"
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read()
    writer.stdout.close()
    writer.wait()
    seen = int(rest.split()[-1]) if rest.split() else seen
    beside.close()

    store = Store.open(path)
    reply = store.load(entry.id).path()[-1]
    assert reply.state == "partial"
    numbers = [int(number) for number in reply.text.split()]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] >= seen
    assert store._rows("PRAGMA integrity_check") == [("ok",)]
    store.close()


def write_some(path: Path, name: str, count: int) -> None:
    store = Store.open(path)
    for number in range(count):
        talk(store, f"{name} {number}")
    store.close()


OPEN_MANY = """
import sys
from pathlib import Path
from localllm.chat.store import Store
print("ready", flush=True)
sys.stdin.readline()
for number in range(25):
    Store.open(Path(sys.argv[1]) / f"{number}.sqlite3").close()
"""


@pytest.mark.slow
def test_apps_that_start_together_make_one_database(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN_MANY, str(tmp_path)]
    apps = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for app in apps:
        assert app.stdout is not None
        assert app.stdout.readline() == "ready\n"
    for app in apps:
        assert app.stdin is not None
        app.stdin.write("go\n")
        app.stdin.flush()
    for app in apps:
        app.communicate(timeout=30)
        assert app.returncode == 0


@pytest.mark.slow
def test_two_apps_write_one_database(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    apps = [context.Process(target=write_some, args=(path, name, 25)) for name in ("a", "b")]
    for app in apps:
        app.start()
    for app in apps:
        app.join(60)
    assert [app.exitcode for app in apps] == [0, 0]
    store = Store.open(path)
    titles = {entry.title for entry in store.chats()}
    assert titles == {f"{name} {number}" for name in ("a", "b") for number in range(25)}
    assert store._rows("PRAGMA integrity_check") == [("ok",)]
    store.close()


def test_threads_share_one_store(store: Store) -> None:
    threads = [threading.Thread(target=talk, args=(store, f"thread {number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.chats()) == 8


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
    monkeypatch.setattr(store_module, "PATIENCE_S", 0.05)
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


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadStore, match="cannot be") as caught:
        Store.open(tmp_path / "file" / "chats.sqlite3")
    assert caught.value.hint


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


def test_a_broken_tree_names_the_chat_and_spares_the_others(store: Store) -> None:
    broken, whole = talk(store, "broken"), talk(store, "whole")
    with store._transaction() as db:
        db.execute("UPDATE message SET stats = '{}' WHERE chat = ? AND role = 'assistant'", (broken.id,))
    with pytest.raises(BadStore, match=broken.id):
        store.load(broken.id)
    assert store.load(whole.id).path()[0].text == "whole"


def test_the_file_is_private(store: Store, path: Path) -> None:
    assert path.stat().st_mode & 0o077 == 0
    assert path.with_name(f"{path.name}-wal").stat().st_mode & 0o077 == 0


def test_a_reply_that_goes_on_after_a_restart(store: Store) -> None:
    chat = Conversation()
    store.add(chat, chat.add_user("Hi"))
    reply = chat.add_reply(chat.path()[-1].id)
    store.add(chat, chat.extend(reply.id, "Hel"))
    store.update(chat.finish(reply.id, None))
    again = store.load(chat.id)
    unfinished = again.unfinished()
    assert isinstance(unfinished, Node)
    store.update(again.extend(unfinished.id, "lo."))
    store.update(again.finish(unfinished.id, STATS))
    assert store.load(chat.id).path()[-1].text == "Hello."
