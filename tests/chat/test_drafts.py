"""What was not sent is kept for each chat, by each app its own; nobody takes what a living app is writing."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.chat import drafts as drafts_module
from localllm.chat.attachments import Attachment, joined, split
from localllm.chat.conversation import Conversation
from localllm.chat.drafts import NEW_CHAT
from localllm.chat.store import Store
from localllm.chat.writers import this_process

GONE = f"{os.getpid()}:0.00"
"""The mark of an app that is gone: its number is this process's now."""


def as_app(monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    monkeypatch.setattr(drafts_module, "this_process", lambda: mark)


def kept(path: Path) -> list[tuple[str, str]]:
    db = sqlite3.connect(path)
    rows = db.execute("SELECT writer, text FROM draft ORDER BY written").fetchall()
    db.close()
    return rows


def test_a_draft_comes_back_until_it_is_empty(store: Store) -> None:
    store.drafts.keep("a", "half a wo", 1)
    store.drafts.keep("a", "half a word", 2)
    store.drafts.keep("b", "another", 3)
    assert [store.drafts.take("a"), store.drafts.take("a"), store.drafts.take("b")] == [*["half a word"] * 2, "another"]
    store.drafts.keep("a", "", 4)
    assert [store.drafts.take("a"), store.drafts.take("c")] == ["", ""]


def test_two_apps_do_not_take_from_each_other_but_from_the_dead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.drafts.keep("a", "mine", 1)
    mine = this_process()
    as_app(monkeypatch, GONE)
    assert store.drafts.take("a") == ""
    store.drafts.keep("a", "theirs", 2)
    store.drafts.keep("a", "theirs, longer", 3)
    assert kept(store.path) == [(mine, "mine"), (GONE, "theirs, longer")]
    monkeypatch.undo()
    assert store.drafts.take("a") == "mine\n\ntheirs, longer"
    assert kept(store.path) == [(mine, "mine\n\ntheirs, longer")]


def test_a_message_on_disk_is_no_draft_but_what_was_written_since_is(store: Store) -> None:
    chat = Conversation()
    question = chat.add_user("Capital?")
    store.drafts.keep(NEW_CHAT, "Capital?", question.created - 1)
    store.drafts.keep(chat.id, "And then", question.created + 1)
    store.add(chat, question)
    assert store.drafts.take(NEW_CHAT) == ""
    assert store.drafts.take(chat.id) == "And then"


def test_the_draft_of_an_erased_chat_is_erased(store: Store) -> None:
    chat = Conversation()
    store.add(chat, chat.add_user("Capital?"))
    store.drafts.keep(chat.id, "secret", 1e12)
    store.erase(chat.id)
    assert kept(store.path) == []


def test_a_message_in_one_chat_leaves_the_draft_of_a_new_one(store: Store) -> None:
    chat = Conversation()
    first = chat.add_user("Capital?")
    store.add(chat, first)
    store.drafts.keep(NEW_CHAT, "for another chat", first.created + 1)
    store.drafts.keep(chat.id, "And of Spain?", first.created + 2)
    second = chat.add_user("And of Spain?")
    store.add(chat, replace(second, created=first.created + 3))
    assert store.drafts.take(chat.id) == ""
    assert store.drafts.take(NEW_CHAT) == "for another chat"


def test_what_was_written_in_a_chat_that_is_gone_comes_back_in_a_new_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Conversation()
    store.add(chat, chat.add_user("Capital?"))
    store.drafts.keep("not on disk yet", "of a living app", 1)
    as_app(monkeypatch, GONE)
    store.erase(chat.id)
    store.drafts.keep(chat.id, "written after that", 2)
    store.drafts.keep(NEW_CHAT, "new", 3)
    monkeypatch.undo()
    assert store.drafts.take(NEW_CHAT) == "written after that\n\nnew"
    assert kept(store.path) == [(this_process(), "of a living app"), (this_process(), "written after that\n\nnew")]


def test_files_of_several_drafts_are_found_as_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [Attachment("a.md", "the river"), Attachment("b.md", "the sea")]
    store.drafts.keep("a", joined(files[:1], "one"), 1)
    as_app(monkeypatch, GONE)
    store.drafts.keep("a", joined(files[1:], "two"), 2)
    monkeypatch.undo()
    assert split(store.drafts.take("a")) == (files, "one\n\ntwo")
