"""Where keys go: what is typed while nothing can be written reaches the message box."""

from __future__ import annotations

import pytest
from textual import events

from localllm.chat.store import Store
from localllm.tui.widgets.chat_list import ChatList
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.transcript import READING, Transcript
from tests.tui.driving import Driver, OpenApp, ask, idle, screen_text, shows, type_at_once, wait_until
from tests.tui.fake import Script
from tests.tui.test_app import past_chat

pytestmark = pytest.mark.slow


def prompt_of(pilot: Driver) -> Prompt:
    return pilot.app.query_one(Prompt)


async def to_transcript(pilot: Driver) -> None:
    await pilot.press("tab")
    await wait_until(pilot, lambda: isinstance(pilot.app.focused, Transcript))


async def test_letters_typed_at_the_conversation_are_in_the_message_all_of_them_and_in_order(
    open_app: OpenApp,
) -> None:
    async with open_app().run_test(size=(100, 32)) as pilot:
        await ask(pilot, "Capital?")
        await to_transcript(pilot)
        type_at_once(pilot, *"jkgG back")
        await wait_until(pilot, lambda: prompt_of(pilot).text.endswith("back"))
        assert prompt_of(pilot).text == "jkgG back"
        assert prompt_of(pilot).has_focus


async def test_where_the_focus_is_can_be_seen_and_escape_and_enter_bring_it_back(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 32)) as pilot:
        await ask(pilot, "Capital?")
        await shows(pilot, "▏▌ Capital?")  # it is in the KV cache
        before = screen_text(pilot)
        for key in ("escape", "enter"):
            await to_transcript(pilot)
            await shows(pilot, READING)
            await pilot.press(key)
            await wait_until(pilot, lambda: prompt_of(pilot).has_focus)
            await wait_until(pilot, lambda: READING not in screen_text(pilot))
        assert len(pilot.app.query_one(Transcript).entries) == 2  # Enter sent nothing
        assert screen_text(pilot) == before


async def test_what_is_pasted_at_the_conversation_is_in_the_message(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 32)) as pilot:
        await ask(pilot, "Capital?")
        await to_transcript(pilot)
        pilot.app.post_message(events.Paste("two\nlines"))
        await wait_until(pilot, lambda: prompt_of(pilot).text == "two\nlines")


async def test_escape_stops_a_reply_before_it_goes_back_to_writing(open_app: OpenApp) -> None:
    async with open_app(Script("word " * 400, piece_s=0.02)).run_test(size=(100, 32)) as pilot:
        prompt_of(pilot).insert("Go")
        await pilot.press("enter")
        await shows(pilot, "word word")
        await to_transcript(pilot)
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
        assert isinstance(pilot.app.focused, Transcript)
        await pilot.press("escape")
        await wait_until(pilot, lambda: prompt_of(pilot).has_focus)


async def test_letters_of_the_list_of_chats_stay_there_and_others_are_written(open_app: OpenApp, store: Store) -> None:
    past_chat(store)
    async with open_app().run_test(size=(100, 32)) as pilot:
        await pilot.press("f3")
        await shows(pilot, "An old question")
        await wait_until(pilot, lambda: isinstance(pilot.app.focused, ChatList))
        await pilot.press("p")
        await shows(pilot, "pinned · ")
        assert isinstance(pilot.app.focused, ChatList)
        await pilot.press("h", "i")
        await wait_until(pilot, lambda: prompt_of(pilot).text == "hi")
