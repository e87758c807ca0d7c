"""The chats on the left: search, rename, pin, delete and its undo."""

from __future__ import annotations

import pytest
from textual.widgets import Input

from localllm.chat.store import Store
from localllm.tui.screens.rename import RenameScreen
from localllm.tui.widgets.chat_list import ChatList
from localllm.tui.widgets.chat_search import ChatSearch
from localllm.tui.widgets.prompt import Prompt
from tests.chat.talking import talk
from tests.tui.driving import Driver, OpenApp, ask, say, screen_text, shows, type_at_once, wait_until

pytestmark = pytest.mark.slow


def listed(pilot: Driver) -> list[str]:
    """The titles in the list."""
    return [chat.title for chat in pilot.app.query_one(ChatList)._chats]


async def to_list(pilot: Driver) -> None:
    await wait_until(pilot, lambda: listed(pilot), "the list")
    await pilot.press("f3", "f3")
    await wait_until(pilot, lambda: isinstance(pilot.app.focused, ChatList), "the focus on the list")


async def test_searching_titles_and_texts_and_opening_what_was_found(open_app: OpenApp, store: Store) -> None:
    hidden = talk(store, "Animals", "A wombat digs.")
    store.add(hidden, hidden.add_version(hidden.path()[-1].id, "A shown reply."))
    talk(store, "Wombat in the title", "Nothing.")
    talk(store, "東京の天気", "晴れです。")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("slash", *"wombat")
        await wait_until(pilot, lambda: listed(pilot) == ["Wombat in the title", "Animals"], "what was found")
        await shows(pilot, "A wombat digs.")
        await pilot.press("down", "down", "enter")
        await shows(pilot, "‹1/2›")
        assert "A wombat digs." in screen_text(pilot)
        assert "A shown reply." not in screen_text(pilot)
        assert isinstance(pilot.app.focused, Prompt)
        await pilot.press("f3", "f3", "slash")
        pilot.app.query_one(ChatSearch).value = "晴れ"
        await wait_until(pilot, lambda: listed(pilot) == ["東京の天気"])
        await pilot.press("escape")
        await wait_until(pilot, lambda: len(listed(pilot)) == 3, "all of them again")
        await pilot.press("escape")
        await wait_until(pilot, lambda: isinstance(pilot.app.focused, Prompt))
    assert store.load(hidden.id).path()[-1].text == "A shown reply.", "looking at a branch is not choosing it"


async def test_letters_that_come_with_the_key_of_the_search_are_searched(open_app: OpenApp, store: Store) -> None:
    chat = talk(store, "Prose", "A wombat digs.")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        type_at_once(pilot, "slash", *"pr")
        await wait_until(pilot, lambda: pilot.app.query_one(ChatSearch).value == "pr")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, RenameScreen)
    assert [entry.pinned for entry in store.chats() if entry.id == chat.id] == [False]


@pytest.mark.parametrize("leave", ["enter", "escape", "f3"])
async def test_a_search_ends_when_the_list_is_left(open_app: OpenApp, store: Store, leave: str) -> None:
    talk(store, "Animals", "A wombat digs.")
    talk(store, "Weather", "It rains.")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("slash", *"wombat")
        await wait_until(pilot, lambda: listed(pilot) == ["Animals"], "what was found")
        await pilot.press("down", leave)
        await wait_until(pilot, lambda: isinstance(pilot.app.focused, Prompt), "the focus on the prompt")
        await wait_until(pilot, lambda: listed(pilot) == ["Weather", "Animals"], "all of them again")
        assert pilot.app.query_one(ChatSearch).value == ""


async def test_a_search_that_finds_nothing_shows_nothing(open_app: OpenApp, store: Store) -> None:
    talk(store, "Animals")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("up", *"xyz")
        await wait_until(pilot, lambda: listed(pilot) == [])
        await pilot.press("enter")
        assert pilot.app.query_one(ChatList).highlighted is None


async def test_renaming(open_app: OpenApp, store: Store) -> None:
    chat = talk(store, "What is a wombat?")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("r")
        await shows(pilot, "Enter renames")
        box = pilot.app.screen.query_one(Input)
        assert box.value == "What is a wombat?"
        box.value = "[b]Wombats"
        await pilot.press("enter")
        await wait_until(pilot, lambda: listed(pilot) == ["[b]Wombats"])
        assert "[b]Wombats" in screen_text(pilot)
        await pilot.press("r")
        await shows(pilot, "Enter renames")
        await pilot.press("escape")
        await pilot.press("r")
        pilot.app.screen.query_one(Input).value = ""
        await pilot.press("enter")
        await wait_until(pilot, lambda: listed(pilot) == ["What is a wombat?"])
    assert store.load(chat.id).given_title == ""


async def test_renaming_the_chat_that_is_open_names_what_is_saved_and_forked_from_it(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "What is a wombat?")
        await to_list(pilot)
        for given, title in (("Wombats", "Wombats"), ("", "What is a wombat?")):
            await pilot.press("r")
            await shows(pilot, "Enter renames")
            pilot.app.screen.query_one(Input).value = given
            await pilot.press("enter")
            await wait_until(pilot, lambda title=title: listed(pilot) == [title])  # type: ignore[misc]
            assert (app.chat.conversation.given_title, app.chat.conversation.title) == (given, title)


async def test_pinning_keeps_a_chat_at_the_top(open_app: OpenApp, store: Store) -> None:
    talk(store, "older")
    talk(store, "newer")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("down", "p")
        await wait_until(pilot, lambda: listed(pilot) == ["older", "newer"])
        await shows(pilot, "pinned · ")
        await pilot.press("p")
        await wait_until(pilot, lambda: listed(pilot) == ["newer", "older"])


async def test_the_list_begins_at_the_open_chat_or_at_the_latest(open_app: OpenApp, store: Store) -> None:
    pinned, _, latest = (talk(store, name) for name in ("pinned", "older", "latest"))
    store.pin(pinned.id, True)
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        chats = pilot.app.query_one(ChatList)
        assert listed(pilot) == ["pinned", "latest", "older"]
        assert chats.highlighted_option is not None
        assert chats.highlighted_option.id == latest.id
        await pilot.press("down", "enter")
        await shows(pilot, "▌ older")
        await to_list(pilot)
        await pilot.press("up", "escape")
        await to_list(pilot)
        assert chats.highlighted == 2


async def test_deletions_are_undone_one_by_one(open_app: OpenApp, store: Store) -> None:
    for name in ("one", "two", "three"):
        talk(store, name)
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("delete", "delete")
        await wait_until(pilot, lambda: listed(pilot) == ["one"])
        await pilot.press("ctrl+z")
        await wait_until(pilot, lambda: listed(pilot) == ["two", "one"])
        await pilot.press("ctrl+z")
        await wait_until(pilot, lambda: listed(pilot) == ["three", "two", "one"])
        await pilot.press("ctrl+z")
        assert len(store.chats()) == 3


async def test_what_is_back_is_said_above_the_prompt_and_opened_by_its_command(open_app: OpenApp, store: Store) -> None:
    talk(store, "Wombats", "They dig.")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("delete")
        await shows(pilot, "Deleted “Wombats”")
        assert "Deleted" in "".join(screen_text(pilot).splitlines()[:6])
        pilot.app.query_one(Prompt).focus()
        await say(pilot, "/restore")
        await shows(pilot, "Restored “Wombats”")
        assert "Deleted" not in screen_text(pilot)
        await shows(pilot, "They dig.")


async def test_a_reply_that_a_crash_cut_off_is_told_once(open_app: OpenApp, store: Store) -> None:
    chat = talk(store, "[b]Wombats", "Half of")
    store.recovered = frozenset({chat.id})
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await shows(pilot, "A reply in “[b]Wombats” was cut off.")
        await to_list(pilot)
        await pilot.press("p")
        await shows(pilot, "pinned")
        assert screen_text(pilot).count("was cut off") == 1


async def test_what_was_cut_off_in_the_open_chat_is_told_there_alone(open_app: OpenApp, store: Store) -> None:
    chat = talk(store, "Wombats", "Half of")
    store.recovered = frozenset({chat.id})
    async with open_app(conversation=store.load(chat.id)).run_test(size=(160, 40), notifications=True) as pilot:
        await to_list(pilot)
        await pilot.press("p")
        await shows(pilot, "pinned")
        assert "was cut off" not in screen_text(pilot)


async def test_a_chat_named_on_the_command_line_is_open_from_the_start(open_app: OpenApp, store: Store) -> None:
    chat = talk(store, "From before", "An answer from before.")
    app = open_app(conversation=store.load(chat.id))
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await shows(pilot, "An answer from before.")
