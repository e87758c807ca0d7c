"""Chats into files and back: what survives, what is refused, and that nothing is written over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localllm.chat import json_file, markdown_file
from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.chat.transfer import export, import_chats, read_file, written
from localllm.errors import BadChat, BadOutput
from tests.chat.talking import STATS, talk

ODD = "# No title\n\n<!-- localllm user -->\n## You\n\n<!-- \\localllm system -->\n```\n<!-- localllm partial -->\n```"


def branched() -> Conversation:
    """Two questions, of the first two versions and of one of those two replies; odd texts; a reply cut off."""
    chat = Conversation(system="Be brief.", settings={"sampling": {"temperature": 0.2}})
    first = chat.add_user("Name a city. 東京? 🗼")
    for text in (ODD, "Kyoto.\n\n    code"):
        reply = chat.add_reply(first.id, model="SmolLM2 135M")
        chat.extend(reply.id, text)
        chat.finish(reply.id, STATS)
    chat.add_user("y")
    cut = chat.add_reply(chat.path()[-1].id, model="m")
    chat.extend(cut.id, "Half of")
    chat.finish(cut.id, None)
    shown = chat.leaf
    chat.add_version(first.id, "Name a river.")
    assert shown is not None
    chat.select(shown)
    return chat


def test_json_loses_nothing(tmp_path: Path, store: Store) -> None:
    chat = branched()
    export([chat], tmp_path / "chat.json", "json")
    assert read_file(tmp_path / "chat.json") == [chat]
    (imported,) = import_chats(read_file(tmp_path / "chat.json"), store)
    assert imported.is_new
    assert store.load(imported.id) == chat


def test_markdown_keeps_what_is_shown_word_for_word(tmp_path: Path) -> None:
    chat = branched()
    chat.select(chat.children(chat.path()[0].id)[0].id)
    chat.given_title = "A *title*"
    export([chat], tmp_path / "chat.md", "markdown")
    (again,) = read_file(tmp_path / "chat.md")
    assert (again.title, again.system) == ("A *title*", "Be brief.")
    assert [(node.role, node.text, node.state, node.model) for node in again.path()] == [
        (node.role, node.text, node.state, node.model) for node in chat.path()
    ]
    assert chat.path()[1].text == ODD
    assert markdown_file.lost(chat) == len(chat.nodes) - 2


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("<think>\nA capital.\n\nOf France.\n</think>\n\nParis.", None),
        ("[THINK]A capital.[/THINK]Paris.", "<think>\nA capital.\n</think>\n\nParis."),
        ("A capital.\n</think>\n\nParis.", "<think>\nA capital.\n</think>\n\nParis."),
    ],
)
def test_a_thought_is_folded_in_markdown_and_read_back(reply: str, read: str | None) -> None:
    chat = Conversation()
    chat.add_user("Capital?")
    chat.add("assistant", reply, state="done", model="m")
    text = markdown_file.write(chat)
    assert "<details>\n<summary>Thought</summary>\n\nA capital." in text
    assert text.endswith("\n\n</details>\n\nParis.\n")
    assert markdown_file.read(text).path()[-1].text == (read or reply)


@pytest.mark.parametrize(
    "reply",
    [
        "<think>\nHalf of a",
        "<think>\nIt ends with\n\n</details>\n\nhere\n</think>\n\nParis.",
        "The marker is <think>.",
    ],
)
def test_what_is_no_whole_thought_stays_word_for_word_in_markdown(reply: str) -> None:
    chat = Conversation()
    chat.add_user("Capital?")
    chat.add("assistant", reply, state="done", model="m")
    assert "<summary>" not in markdown_file.write(chat)
    assert markdown_file.read(markdown_file.write(chat)).path()[-1].text == reply


def test_markdown_keeps_a_partial_reply_partial_and_an_automatic_title_automatic(tmp_path: Path) -> None:
    (again,) = [markdown_file.read(markdown_file.write(branched()))]
    assert again.path()[-1].state == "partial"
    assert again.given_title == ""


def test_markdown_may_be_edited_by_hand() -> None:
    lines = [
        "# A talk",
        "",
        "<!-- localllm user -->",
        "",
        "Hi there",
        "",
        "<!-- localllm assistant -->",
        "## Me",
        "Hello.",
    ]
    text = "\r\n".join(lines)
    chat = markdown_file.read(text)
    assert [(node.role, node.text, node.model) for node in chat.path()] == [
        ("user", "Hi there", ""),
        ("assistant", "Hello.", "Me"),
    ]


def test_importing_twice_adds_nothing_and_a_changed_chat_is_another(tmp_path: Path, store: Store) -> None:
    chat = talk(store, "Hi")
    export([chat], tmp_path / "chat.json", "json")
    (same,) = import_chats(read_file(tmp_path / "chat.json"), store)
    assert (same.id, same.is_new) == (chat.id, False)
    store.add(chat, chat.add_user("More"))
    (other,) = import_chats(read_file(tmp_path / "chat.json"), store)
    assert other.is_new
    assert other.id != chat.id
    assert sorted(entry.messages for entry in store.chats()) == [2, 3]
    assert store.load(chat.id) == chat
    store.delete(chat.id)
    export([chat], tmp_path / "more.json", "json")
    (third,) = import_chats(read_file(tmp_path / "more.json"), store)
    assert third.is_new
    assert [entry.id for entry in store.deleted()] == [chat.id]


def test_json_keeps_the_pin_and_a_pin_makes_no_other_chat(tmp_path: Path, store: Store) -> None:
    chat = talk(store, "Hi")
    store.pin(chat.id, True)
    export([store.load(chat.id)], tmp_path / "chat.json", "json")
    store.pin(chat.id, False)
    (same,) = import_chats(read_file(tmp_path / "chat.json"), store)
    assert not same.is_new
    assert not store.chats()[0].pinned, "a chat that is there is left as it is"
    store.erase(chat.id)
    import_chats(read_file(tmp_path / "chat.json"), store)
    assert [(entry.id, entry.pinned) for entry in store.chats()] == [(chat.id, True)]


def test_a_file_from_before_there_were_pins_is_read() -> None:
    document = json.loads(written([branched()], "json"))
    del document["chats"][0]["pinned"]
    assert [chat.pinned for chat in json_file.read(json.dumps(document))] == [False]


def test_a_copy_is_cut_where_the_chat_was(tmp_path: Path, store: Store) -> None:
    chat = talk(store, "Hi")
    chat.cut(chat.path()[-1].id, "They greeted.")
    export([chat], tmp_path / "chat.json", "json")
    (copy,) = import_chats(read_file(tmp_path / "chat.json"), store)
    again = store.load(copy.id)
    assert copy.is_new
    assert [message.content for message in again.messages()] == [message.content for message in chat.messages()]


def test_an_imported_chat_keeps_its_place_in_time(tmp_path: Path, store: Store) -> None:
    old = branched()
    (tmp_path / "old.json").write_text(
        json.dumps(
            {
                "format": "localllm chats",
                "version": 1,
                "chats": [
                    json_file.chat_values(old)
                    | {"messages": [dict(node, created=5.0) for node in json_file.chat_values(old)["messages"]]}
                ],
            }
        )
    )
    talk(store, "new")
    import_chats(read_file(tmp_path / "old.json"), store)
    assert [entry.updated for entry in store.chats()][-1] == 5.0


def test_messages_of_other_programs_are_read() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]
    for document in (messages, {"model": "m", "messages": messages}):
        (chat,) = json_file.read(json.dumps(document))
        assert chat.system == "Be brief."
        assert [(node.role, node.text) for node in chat.path()] == [("user", "Hi"), ("assistant", "Hello.")]


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("mine")
    with pytest.raises(BadOutput, match="exists already"):
        export([branched()], tmp_path / "a.json", "json")
    assert (tmp_path / "a.json").read_text() == "mine"
    with pytest.raises(BadOutput, match="cannot be written"):
        export([branched()], tmp_path / "nowhere" / "a.json", "json")
    with pytest.raises(BadChat, match="one chat, not 2"):
        export([branched(), branched()], tmp_path / "two.md", "markdown")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_chat_without_a_message_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.md"
    with pytest.raises(BadChat, match="no message to save"):
        export([Conversation(system="Be brief.")], path, "markdown")
    assert not path.exists()


def test_markdown_without_marks_and_text_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Notes\n\n## You\n\nHi\n")
    with pytest.raises(BadChat, match=r"a\.md holds no chat.*No message is marked") as caught:
        read_file(tmp_path / "a.md")
    assert "<!-- localllm user -->" in caught.value.hint
    (tmp_path / "a.md").write_bytes(b"\xff\xfe")
    with pytest.raises(BadChat, match="byte 0"):
        read_file(tmp_path / "a.md")
    with pytest.raises(BadChat, match="cannot be read"):
        read_file(tmp_path / "nowhere.md")


def changed(place: tuple[str | int, ...], value: Any) -> str:
    document = json.loads(written([branched()], "json"))
    at = document
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("format",), "other", "format is not 'localllm chats'"),
        (("version",), 2, "newer localllm"),
        (("version",), None, "version is not a number"),
        (("chats",), {}, "chats is not a list"),
        (("chats", 0), 1, r"chats\[0\] is not an object"),
        (("chats", 0, "id"), 1, r"chats\[0\].id is not a text"),
        (("chats", 0, "created"), "now", r"chats\[0\].created is not a number"),
        (("chats", 0, "created"), True, "created is not a number"),
        (("chats", 0, "created"), 1e299, "created is not a time in the years 1 to 9999"),
        (("chats", 0, "messages", 1, "created"), -1e12, "created is not a time"),
        (("chats", 0, "settings"), {"engine": 1}, "settings.engine is not an object"),
        (("chats", 0, "settings"), [], "settings is not an object"),
        (("chats", 0, "settings"), {"cuts": [1]}, r"settings.cuts is not an object"),
        (("chats", 0, "settings"), {"cuts": {"a": 1}}, r"settings.cuts is not"),
        (("chats", 0, "settings"), {"sampling": {"top_k": "x"}}, r"settings.sampling is not"),
        (("chats", 0, "pinned"), 1, r"chats\[0\].pinned is not true or false"),
        (("chats", 0, "leaf"), "nobody", "last message nobody"),
        (("chats", 0, "messages", 1, "role"), "tool", r"chats\[0\].messages\[1\].role is not one of user, assistant"),
        (("chats", 0, "messages", 1, "text"), "\ud800", "text is not a text"),
        (("chats", 0, "messages", 1, "created"), float("nan"), "created is not a number"),
        (("chats", 0, "messages", 1, "parent"), "nobody", "follows nobody"),
        (("chats", 0, "messages", 1, "state"), "gone", "state is not one of"),
        (("chats", 0, "messages", 1, "stats"), {}, "stats is not what a reply cost"),
        (("chats", 0, "messages", 1, "stats", "ttft_s"), "slow", "stats is not what a reply cost"),
        (("chats", 0, "messages", 0, "parent"), "self", "follows self"),
    ],
)
def test_a_document_that_is_wrong_says_where(place: tuple[str | int, ...], value: Any, message: str) -> None:
    with pytest.raises(BadChat, match=message) as caught:
        json_file.read(changed(place, value))
    assert caught.value.hint


def test_two_messages_of_one_id_are_refused() -> None:
    document = json.loads(written([branched()], "json"))
    document["chats"][0]["messages"].append(document["chats"][0]["messages"][0])
    with pytest.raises(BadChat, match="an id of its own"):
        json_file.read(json.dumps(document))


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"a": 1}', "[]", '[{"role": "user"}]', "[1]"])
def test_what_is_no_chat_is_refused(text: str) -> None:
    with pytest.raises(BadChat):
        json_file.read(text)
