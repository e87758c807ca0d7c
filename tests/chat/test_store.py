"""Chats on disk, on real files: what survives a kill, what two apps do to each other, what a bad file gets."""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from localllm.chat import database as database_module
from localllm.chat import store as store_module
from localllm.chat.conversation import Conversation, Node
from localllm.chat.store import UNDO_DAYS, Store
from localllm.errors import BadStore
from tests.chat.talking import STATS, talk


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


def test_a_deleted_chat_can_be_restored_and_is_erased_after_some_days(
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
    monkeypatch.setattr(store_module, "UNDO_DAYS", -UNDO_DAYS)
    Store.open(path).close()
    with pytest.raises(BadStore, match="no chat"):
        store.load(chat.id)


def bytes_of(path: Path) -> bytes:
    """What the database holds, its write-ahead log included."""
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def test_what_expired_is_no_longer_in_the_file(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = talk(store, "The password is xylophone.")
    store.delete(chat.id)
    assert b"xylophone" in bytes_of(path)
    monkeypatch.setattr(store_module, "UNDO_DAYS", -UNDO_DAYS)
    other = Store.open(path)
    assert b"xylophone" not in bytes_of(path)
    other.close()


def test_a_reader_that_keeps_erased_text_alive_is_told_and_wiping_again_removes_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "PATIENCE_S", 0.05)
    with closing(Store.open(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as reader:
        chat = talk(store, "The password is xylophone.")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM chat").fetchall()
        store.erase(chat.id)
        with pytest.raises(BadStore, match="still holds what was erased") as caught:
            store.wipe()
        assert "rm --now" in caught.value.hint
        assert store.chats() == []
        assert b"xylophone" in bytes_of(path)
        reader.execute("COMMIT")
        store.wipe()
        assert b"xylophone" not in bytes_of(path)


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
    with store._database.transaction() as db:
        db.executemany(
            "INSERT INTO message (id, chat, parent, role, text, created, state, model)"
            " VALUES (?, ?, ?, 'user', ?, 0, 'done', '')",
            [(node.id, chat.id, node.parent, node.text) for node in nodes],
        )
    assert len(store.load(chat.id).nodes) == 1500
    store.delete(chat.id)
    monkeypatch.setattr(store_module, "UNDO_DAYS", -UNDO_DAYS)
    Store.open(path).close()
    assert store._database.rows("SELECT count(*) FROM message") == [(0,)]


def test_prompts_come_oldest_first_and_once(store: Store) -> None:
    for question in ("one", "two", "one", "three"):
        talk(store, question)
    assert store.prompts(10) == ["two", "one", "three"]
    assert store.prompts(2) == ["one", "three"]


WRITER = """
import sys
from localllm.chat.conversation import Conversation, Node
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
    assert store.recovered == {entry.id}
    reply = store.load(entry.id).path()[-1]
    assert reply.state == "partial"
    numbers = [int(number) for number in reply.text.split()]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] >= seen
    assert store._database.rows("PRAGMA integrity_check") == [("ok",)]
    store.close()


ON_A_SLOW_DISK = """
import sys, time

class Slow:
    def __init__(self, connection):
        self._connection = connection

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, statement, *values):
        if statement == "COMMIT":
            time.sleep(0.005)
        return self._connection.execute(statement, *values)

from localllm.chat.database import Database
prepare = Database.prepare

def prepare_slow(self, check):
    prepare(self, check)
    self._connection = Slow(self._connection)

Database.prepare = prepare_slow
"""


@pytest.mark.slow
def test_an_app_that_writes_all_the_time_keeps_no_other_out(path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", ON_A_SLOW_DISK + WRITER, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(8):
            Store.open(path).close()  # takes the write lock for a moment
        assert writer.poll() is None, "the writer was kept out"
    finally:
        writer.kill()
        writer.communicate()


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
    assert store._database.rows("PRAGMA integrity_check") == [("ok",)]
    store.close()


def test_threads_share_one_store(store: Store) -> None:
    threads = [threading.Thread(target=talk, args=(store, f"thread {number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.chats()) == 8


def test_a_title_given_by_hand_stays_and_an_empty_one_is_automatic_again(store: Store) -> None:
    chat = talk(store, "What is a wombat?")
    store.suggest_title(chat.id, "Wombats")
    assert store.chats()[0].title == "Wombats"
    store.rename(chat.id, "  My\nanimals ")
    store.suggest_title(chat.id, "Wombats again")
    assert store.chats()[0].title == store.load(chat.id).title == "My animals"
    store.rename(chat.id, " ")
    assert store.chats()[0].title == "What is a wombat?"
    assert store.load(chat.id).given_title == ""


def test_pinned_chats_come_first(store: Store) -> None:
    first, _ = talk(store, "first"), talk(store, "second")
    store.pin(first.id, True)
    assert [(entry.title, entry.pinned) for entry in store.chats()] == [("first", True), ("second", False)]
    store.pin(first.id, False)
    assert [entry.title for entry in store.chats()] == ["second", "first"]


def test_settings_and_the_system_prompt_are_kept_with_the_chat(store: Store) -> None:
    chat = Conversation(settings={"model": "qwen3:0.6b", "sampling": {"temperature": 0.2}})
    store.add(chat, chat.add_user("Hi"))
    assert store.load(chat.id).settings == {"model": "qwen3:0.6b", "sampling": {"temperature": 0.2}}
    store.set_settings(chat.id, {"context": 4096})
    store.set_system(chat.id, "Be brief.")
    again = store.load(chat.id)
    assert (again.settings, again.system) == ({"context": 4096}, "Be brief.")


def test_a_whole_chat_is_written_at_once_and_never_over_another(store: Store) -> None:
    chat = talk(store, "Hi")
    fork = chat.fork()
    store.add_whole(fork)
    assert store.load(fork.id) == fork
    with pytest.raises(BadStore, match="already"):
        store.add_whole(chat)
    assert len(store.chats()) == 2


def test_a_chat_that_another_app_erased_while_it_is_open_is_written_again(store: Store, path: Path) -> None:
    chat = talk(store, "Hi")
    question = chat.add_user("More?")
    store.add(chat, question)
    reply = chat.add_reply(question.id)
    store.add(chat, chat.extend(reply.id, "Well"))
    other = Store.open(path)
    other.erase(chat.id)
    assert not store.update(chat.extend(reply.id, ", yes."))
    store.add(chat, chat.finish(reply.id, STATS))
    assert other.load(chat.id) == chat
    other.close()


def test_what_a_newer_version_keeps_of_a_reply_is_no_damage(store: Store) -> None:
    chat = talk(store)
    with store._database.transaction() as db:
        db.execute("UPDATE message SET stats = json_set(stats, '$.watts', 12) WHERE stats NOT NULL")
    assert store.load(chat.id).path()[-1].stats == STATS


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
