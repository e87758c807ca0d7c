"""Searching titles and texts, with an index and without one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.chat import search as search_module
from localllm.chat.conversation import Conversation
from localllm.chat.search import BATCH, excerpt, words_of
from localllm.chat.store import Store
from tests.chat.talking import talk


@pytest.fixture(params=["index", "no index"])
def store(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with an index from the first message on; once of an SQLite that knows no trigrams."""
    monkeypatch.setattr(search_module, "WORTH_AN_INDEX", 0)
    if request.param == "no index":
        monkeypatch.setattr(search_module, "TOKENIZER", "nonesuch")
    opened = Store.open(path)
    assert opened._searching().has_index == (request.param == "index")
    yield opened
    opened.close()


def titles(store: Store, words: str) -> list[str]:
    by_id = {entry.id: entry.title for entry in store.chats()}
    return [by_id[hit.chat] for hit in store.find(words)]


def test_words_are_found_in_titles_and_texts_inside_of_others_and_in_any_case(store: Store) -> None:
    talk(store, "Recipes with rhubarb", "Crumble, and a FOOL.")
    talk(store, "A lighthouse", "It stands on a rock.")
    assert titles(store, "HUBAR") == ["Recipes with rhubarb"]
    assert titles(store, "fool") == ["Recipes with rhubarb"]
    assert titles(store, "a") == ["A lighthouse", "Recipes with rhubarb"]
    assert titles(store, "rock fool") == []
    assert titles(store, "crumble recipes") == ["Recipes with rhubarb"]
    assert titles(store, "") == titles(store, "  ") == []


@pytest.mark.parametrize("words", ["東京", "京", "の首都は", "日本 東京"])
def test_chinese_and_japanese_are_found_without_spaces(store: Store, words: str) -> None:
    talk(store, "日本の首都はどこですか", "日本の首都は東京です。")
    talk(store, "中国的首都是哪里", "北平。")
    assert titles(store, words) == ["日本の首都はどこですか"]


@pytest.mark.parametrize(
    "words", ['"on a rock"', "50%", "it's", 'say """', "a_b", "NEAR(", "stra\0nge", "'; DROP", "Größe"]
)
def test_what_sql_and_fts_read_otherwise_is_only_text(store: Store, words: str) -> None:
    talk(store, "odd", 'It stands on a rock: 50% of it\'s a_b, say """ or NEAR( or \'; DROP or stra\0nge GRÖSSE größe.')
    talk(store, "plain", "A rock on it: 50 a-b.")
    assert titles(store, words) == ["odd"]


def test_a_branch_that_is_not_shown_is_searched_too_and_the_message_is_named(store: Store) -> None:
    chat = talk(store, "Hi", "A wombat, hidden.")
    hidden = chat.path()[-1]
    store.add(chat, chat.add_version(hidden.id, "Shown."))
    (hit,) = store.find("wombat")
    assert (hit.chat, hit.message, hit.excerpt) == (chat.id, hidden.id, "A wombat, hidden.")


def test_what_is_written_after_a_search_is_found_by_the_next(store: Store) -> None:
    chat = Conversation()
    store.add(chat, chat.add_user("Count"))
    reply = chat.add_reply(chat.path()[-1].id)
    store.add(chat, chat.extend(reply.id, "one"))
    assert titles(store, "one") == ["Count"], "a reply that is being written"
    store.update(chat.extend(reply.id, " hundred"))
    assert titles(store, "hundred") == ["Count"]
    store.update(chat.finish(reply.id, None))
    assert titles(store, "one hundred") == ["Count"]
    store.update(chat.extend(reply.id, " thousand"))
    assert titles(store, "thousand") == ["Count"]
    store.rename(chat.id, "Numerals")
    assert titles(store, "numeral") == ["Numerals"]


def test_deleted_chats_are_not_found_and_erased_ones_leave_nothing(store: Store, path: Path) -> None:
    chat = talk(store, "Hi", "The password is xylophone. ꙮⱉꙮ")
    kept = talk(store, "Hello", "Nothing is secret here.")
    assert titles(store, "xylophone") == ["Hi"]
    store.delete(chat.id)
    assert store.find("xylophone") == []
    store.erase(chat.id)
    store.wipe()
    left = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"xylophone" not in left
    assert b"phon" not in left
    assert "ꙮⱉꙮ".encode() not in left, "a trigram of the index, which stands there as it is"
    assert titles(store, "secret") == [kept.title]


@pytest.mark.slow
def test_rows_that_were_moved_leave_no_copies_of_what_is_erased(store: Store, path: Path) -> None:
    """SQLite overwrites what it deletes, but not where that stood before its page was split.

    This seed is one in thirty by which SQLite 3.40 leaves copies if it is not told to write the file anew.
    """
    luck = random.Random(6)
    talks = [Conversation() for _ in range(40)]
    marks: dict[str, list[bytes]] = {chat.id: [] for chat in talks}
    for number in range(400):
        chat = luck.choice(talks)
        mark = f"mark{number:04d}{luck.getrandbits(128):032x}"
        marks[chat.id].append(mark.encode())
        node = chat.add_user(mark)
        store.add(chat, node)
        store.update(chat.extend(node.id, " x" * luck.choice([0, 5, 100, 3000])))
    while store.index_some():
        pass
    for chat in talks[:15]:
        store.erase(chat.id)
    store.wipe()
    held = b"".join(file.read_bytes() for file in path.parent.iterdir())
    parts = {mark[at : at + 12] for chat in talks[:15] for mark in marks[chat.id] for at in range(8, 28)}
    assert not [part for part in parts if part in held]
    assert all(mark in held for chat in talks[15:] for mark in marks[chat.id])


def test_messages_are_found_before_all_of_them_are_indexed(store: Store) -> None:
    chat = Conversation()
    for number in range(3 * BATCH):
        chat.add_user(f"message {number}")
    store.add_whole(chat)
    for _ in range(4):
        for number in (0, BATCH + 5, 3 * BATCH - 1):
            assert f"message {number}" in [hit.excerpt for hit in store.find(f'"message {number}"')]
    while store.index_some():
        pass
    pending = "SELECT count(*) FROM message WHERE NOT indexed"
    assert store._database.rows(pending) == [(0 if store._searching().has_index else 3 * BATCH,)]


def test_few_messages_are_not_worth_an_index(path: Path) -> None:
    store = Store.open(path)
    talk(store, "Recipes with rhubarb")
    assert titles(store, "rhubarb") == ["Recipes with rhubarb"]
    assert not store.index_some()
    assert store._database.rows("SELECT count(*) FROM message_index") == [(0,)]
    store.close()


def test_words() -> None:
    assert words_of('Two "in  one" two') == ["in  one", "two"]
    assert words_of('a "b') == ["a", '"b'][::-1]


def test_an_excerpt_begins_at_a_word_before_what_was_found() -> None:
    text = "word " * 40 + "needle " + "word " * 40
    found = excerpt(text, "needle")
    assert found.startswith("…word")
    assert "needle" in found
    assert found.endswith("…")
    assert len(found) < 130
    assert excerpt("a\n needle", "needle") == "a needle"


def test_an_excerpt_is_without_the_fences_of_code() -> None:
    text = "Run:\n```python\nneedle()\n```\nand `x`.\n\n~~~\nmore\n~~~"
    assert excerpt(text, "needle") == "Run: needle() and `x`. more"
    assert excerpt(text, "python") == "Run: python needle() and `x`. more"
