"""What is in the prompt outlives the app, and stays with its chat."""

from __future__ import annotations

import pytest

from localllm.chat.drafts import NEW_CHAT
from localllm.chat.store import Store
from localllm.tui.messages import ChatChosen
from localllm.tui.widgets.prompt import Prompt
from tests.tui.driving import Driver, OpenApp, ask, only_chat, wait_until
from tests.tui.test_app import past_chat

pytestmark = pytest.mark.slow


def prompt(pilot: Driver) -> Prompt:
    return pilot.app.query_one(Prompt)


async def test_a_draft_is_on_disk_while_it_is_written_and_there_in_the_next_app(
    open_app: OpenApp, store: Store
) -> None:
    async with open_app().run_test(size=(100, 30)) as pilot:
        await pilot.press(*"half")
        await wait_until(pilot, lambda: store.drafts.take(NEW_CHAT) == "half", "the draft on disk")
    async with open_app().run_test(size=(100, 30)) as pilot:
        await wait_until(pilot, lambda: prompt(pilot).text == "half")
        await ask(pilot, "!")
        await wait_until(pilot, lambda: store.drafts.take(NEW_CHAT) == "")
        assert only_chat(store).path()[0].text == "half!"
        assert store.drafts.take(only_chat(store).id) == ""


async def test_each_chat_has_its_own_draft(open_app: OpenApp, store: Store) -> None:
    chat = past_chat(store)
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press(*"new")
        app.chat.chats.choose(ChatChosen(chat.id))
        await wait_until(pilot, lambda: app.chat.conversation.id == chat.id)
        assert prompt(pilot).text == ""
        await pilot.press(*"old", "ctrl+n")
        await wait_until(pilot, lambda: prompt(pilot).text == "new")
        app.chat.chats.new()
        await pilot.pause()
        assert prompt(pilot).text == "new"
        app.chat.chats.choose(ChatChosen(chat.id))
        await wait_until(pilot, lambda: prompt(pilot).text == "old")


async def test_an_edit_that_is_not_sent_is_kept_beside_what_was_written_before(open_app: OpenApp, store: Store) -> None:
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await ask(pilot, "Capital?")
        chat = app.chat.conversation.id
        await pilot.press(*"next", "f4", "!")
        await wait_until(pilot, lambda: store.drafts.take(chat) == "next\n\nCapital?!")
