"""Where the panes are: beside the conversation while that has room, else one in its place, above the prompt."""

from __future__ import annotations

import pytest

from localllm import paths, settings
from localllm.chat.store import Store
from localllm.settings import writing
from localllm.tui.messages import ChatChosen
from localllm.tui.widgets.chat_list import ChatList
from localllm.tui.widgets.memory_panel import MemoryPanel
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.sidebar import Sidebar
from localllm.tui.widgets.talk import Talk
from localllm.tui.widgets.transcript import READING
from tests.tui.driving import Driver, OpenApp, ask, say, screen_text, shows, wait_until
from tests.tui.test_app import PARIS, past_chat

pytestmark = pytest.mark.slow


def panes(pilot: Driver) -> str:
    """Which panes are shown."""
    app = pilot.app
    names = [pane.id or "" for pane in (app.query_one(Sidebar), app.query_one(MemoryPanel)) if pane.display]
    return " ".join(names)


async def press(pilot: Driver, *keys: str) -> str:
    """Press keys; the panes that are shown then."""
    await pilot.press(*keys)
    await pilot.pause()
    return panes(pilot)


@pytest.mark.parametrize("width", [60, 73, 74, 80, 100, 105, 106, 120, 132, 160])
async def test_no_pane_covers_the_prompt_or_leaves_slivers_of_the_conversation(open_app: OpenApp, width: int) -> None:
    async with open_app().run_test(size=(width, 24)) as pilot:
        await ask(pilot, "Capital of France?")
        talk = pilot.app.query_one(Talk)
        for keys in ([], ["f3"], ["f2"], ["f3"], ["f2"], ["f2"]):
            shown = await press(pilot, *keys)
            seen = [pilot.app.query_one(f"#{name}").region for name in shown.split()]
            areas = [*seen, pilot.app.query_one(Prompt).region]
            areas += [talk.transcript.region] if talk.transcript.display else []
            assert not any(one.overlaps(other) for one in areas for other in areas if one is not other)
            assert talk.transcript.display or (width < 74 and len(seen) == 1)
            assert talk.region.width >= 40
            assert pilot.app.query_one(Prompt).region.height == 3


async def test_the_title_of_the_open_chat_stands_above_it_where_the_list_is_not_seen(
    open_app: OpenApp, store: Store
) -> None:
    async with open_app().run_test(size=(60, 24)) as pilot:
        await ask(pilot, "What is [b] in HTML?")
        await wait_until(pilot, lambda: store.chats())
        await say(pilot, "/rename Marks [/b] of HTML")
        await shows(pilot, "Marks [/b] of HTML")
        assert screen_text(pilot).splitlines()[0] == "   Marks [/b] of HTML"
        await pilot.press("tab")
        await shows(pilot, READING)
        await pilot.press("escape")
        await shows(pilot, "Marks [/b] of HTML")
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: "Marks" not in screen_text(pilot))


@pytest.mark.parametrize(
    ("width", "keys", "kept", "again"),
    [
        (160, ["f2"], {"memory": False}, "chats"),
        (160, ["f3", "f2"], {"chats": False, "memory": False}, ""),
        (160, ["f2", "f2"], {}, "chats memory"),
        (80, ["f2"], {"memory": True}, "memory"),
        (80, ["f2", "escape"], {}, ""),
        (100, ["f2"], {"memory": False}, ""),
        (120, ["f3"], {"chats": True}, "chats memory"),
        (60, ["f2"], {}, ""),
    ],
)
async def test_the_panes_are_as_they_were_left_at_the_next_start(
    open_app: OpenApp, width: int, keys: list[str], kept: dict[str, bool], again: str
) -> None:
    app = open_app()
    async with app.run_test(size=(width, 24)) as pilot:
        await press(pilot, *keys)
    app.close()
    looks = settings.load().settings
    found = {"chats": looks.chats_pane, "memory": looks.memory_pane}
    assert found == {name: {True: "shown", False: "hidden", None: None}[kept.get(name)] for name in found}
    assert kept or not paths.settings_file().exists()
    async with open_app(panes=kept).run_test(size=(width, 24)) as pilot:
        await pilot.pause()
        assert panes(pilot) == again
        assert isinstance(pilot.app.focused, Prompt)


@pytest.mark.parametrize("leave", ["f2", "escape"])
async def test_a_pane_that_is_remembered_stays_so_where_it_would_have_the_place_of_the_conversation(
    open_app: OpenApp, leave: str
) -> None:
    writing.change("memory_pane", "shown")
    app = open_app(panes={"memory": True})
    async with app.run_test(size=(60, 24)) as pilot:
        await ask(pilot, "Capital of France?")
        assert panes(pilot) == ""
        assert await press(pilot, "f2") == "memory"
        assert await press(pilot, leave) == ""
    app.close()
    assert settings.load().settings.memory_pane == "shown"


async def test_a_list_that_is_remembered_stays_when_a_chat_is_picked(open_app: OpenApp, store: Store) -> None:
    past = past_chat(store)
    writing.change("chats_pane", "shown")
    app = open_app(panes={"chats": True})
    async with app.run_test(size=(100, 24)) as pilot:
        await pilot.pause()
        app.chat.chats.choose(ChatChosen(past.id))
        await shows(pilot, "An old answer.")
        assert panes(pilot) == "chats"
    app.close()
    assert settings.load().settings.chats_pane == "shown"
    again = open_app(panes={"chats": True})
    async with again.run_test(size=(100, 24)) as pilot:
        await pilot.pause()
        assert await press(pilot, "f3") == "memory"
    again.close()
    assert settings.load().settings.chats_pane is None


@pytest.mark.parametrize("width", [60, 80])
async def test_one_pane_at_a_time_and_escape_takes_the_latest_away(open_app: OpenApp, width: int) -> None:
    async with open_app().run_test(size=(width, 24)) as pilot:
        assert await press(pilot, "f2") == "memory"
        assert await press(pilot, "f3") == "chats"
        assert isinstance(pilot.app.focused, ChatList)
        assert await press(pilot, "escape") == "memory"
        assert isinstance(pilot.app.focused, Prompt)
        assert await press(pilot, "escape") == ""


async def test_memory_leaves_for_the_chats_and_comes_back(open_app: OpenApp, store: Store) -> None:
    past_chat(store, "An old chat")
    async with open_app().run_test(size=(100, 32)) as pilot:
        assert await press(pilot) == "memory"
        assert await press(pilot, "f3") == "chats"
        await shows(pilot, "An old chat")
        assert await press(pilot, "enter") == "memory"
        await shows(pilot, "An old answer.")
        assert await press(pilot, "f3", "f3") == "memory"
        # The list was there to pick from: it does not come back when the memory goes.
        assert await press(pilot, "f3", "f2") == "memory"
        assert isinstance(pilot.app.focused, Prompt)
        assert await press(pilot, "f2") == ""
        assert await press(pilot, "f3", "escape") == "", "memory was hidden on purpose"


async def test_what_was_hidden_on_purpose_stays_so_where_there_is_room_for_all(open_app: OpenApp, store: Store) -> None:
    past_chat(store, "An old chat")
    async with open_app().run_test(size=(160, 40)) as pilot:
        assert await press(pilot) == "chats memory"
        assert await press(pilot, "f2") == "chats"
        await press(pilot, "f3", "f3", "enter")
        await shows(pilot, "An old answer.")
        assert panes(pilot) == "chats"
        await pilot.resize_terminal(60, 24)
        assert await press(pilot) == ""
        await pilot.resize_terminal(120, 24)
        assert await press(pilot, "f3") == "chats"


async def test_a_message_is_seen_when_it_is_sent_from_below_a_pane(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(60, 24)) as pilot:
        await ask(pilot, "Capital of France?")
        assert await press(pilot, "f2") == "memory"
        assert PARIS not in screen_text(pilot)
        await say(pilot, "And again?")
        await wait_until(pilot, lambda: screen_text(pilot).count(PARIS) == 2)
        assert panes(pilot) == ""


async def test_memory_that_is_low_goes_without_its_empty_lines(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(60, 24)) as pilot:
        await pilot.press("f2")
        await shows(pilot, "931.6 MiB ours")
        await pilot.resize_terminal(60, 40)
        await shows(pilot, "931.6 MiB ours")
        rows = [line.strip() for line in screen_text(pilot).splitlines()]
        assert rows[rows.index("Memory") + 1] == ""
