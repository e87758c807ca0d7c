"""What is in the prompt outlives the app, and stays with its chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.chat.attachments import MOST_TYPED_LINES
from localllm.chat.drafts import NEW_CHAT
from localllm.chat.store import Store
from localllm.tui.messages import ChatChosen, LongPaste
from localllm.tui.widgets.attachment_line import AttachmentLine
from localllm.tui.widgets.composer import Composer
from localllm.tui.widgets.prompt import Prompt
from tests.tui.driving import Driver, OpenApp, ask, only_chat, screen_text, wait_until
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


async def test_attached_files_and_a_long_paste_belong_to_the_draft(
    open_app: OpenApp, store: Store, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("the river\nis long\n")
    chat, pasted = past_chat(store), "".join(f"line {number}\n" for number in range(MOST_TYPED_LINES + 1))
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        composer = app.query_one(Composer)
        composer.attach(notes)
        prompt(pilot).post_message(LongPaste(pasted))
        await pilot.press(*"sum")
        await wait_until(pilot, lambda: len(composer.files()) == 2)
        files = composer.files()
        app.chat.chats.choose(ChatChosen(chat.id))
        await wait_until(pilot, lambda: app.chat.conversation.id == chat.id)
        assert composer.files() == []
        assert app.query_one(AttachmentLine).display is False
    notes.unlink()
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_until(pilot, lambda: prompt(pilot).text == "sum")
        assert [file.text.strip() for file in app.query_one(Composer).files()] == [file.text.strip() for file in files]
        await wait_until(pilot, lambda: "about" in screen_text(pilot), "what it costs")
        await ask(pilot, "!")
        text = only_new(store, chat.id)
        assert text.endswith("sum!")
        assert "the river\nis long" in text
        await wait_until(pilot, lambda: store.drafts.take(NEW_CHAT) == "")


def only_new(store: Store, old: str) -> str:
    """The question of the chat that is not the old one."""
    (chat,) = [one for one in store.chats() if one.id != old]
    return store.load(chat.id).path()[0].text


async def test_an_edit_that_is_not_sent_is_kept_beside_what_was_written_before(open_app: OpenApp, store: Store) -> None:
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await ask(pilot, "Capital?")
        chat = app.chat.conversation.id
        await pilot.press(*"next", "f4", "!")
        await wait_until(pilot, lambda: store.drafts.take(chat) == "next\n\nCapital?!")
