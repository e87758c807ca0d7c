"""What is in the prompt outlives the app, and stays with its chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.chat.attachments import MOST_TYPED_LINES
from localllm.chat.drafts import NEW_CHAT
from localllm.chat.store import Store
from localllm.errors import BadStore
from localllm.tui.messages import ChatChosen, ChatDropped, ChatOpened, DraftFound, LongPaste
from localllm.tui.widgets.attachment_line import AttachmentLine
from localllm.tui.widgets.composer import Composer
from localllm.tui.widgets.prompt import Prompt
from tests.tui.driving import Driver, OpenApp, SlowDisk, ask, only_chat, say, screen_text, shows, wait_until
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


async def test_a_message_in_another_chat_leaves_the_draft_of_a_new_one(open_app: OpenApp, store: Store) -> None:
    chat = past_chat(store)
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press(*"new")
        app.chat.chats.choose(ChatChosen(chat.id))
        await wait_until(pilot, lambda: app.chat.conversation.id == chat.id)
        await ask(pilot, "old")
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: prompt(pilot).text == "new")


async def test_a_draft_that_reaches_the_disk_after_its_message_does_not_stay(open_app: OpenApp, store: Store) -> None:
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_until(pilot, lambda: app.chat.drafts._kept)
        disk = SlowDisk(app.chat.behind.archive._jobs)
        await pilot.press(*"Capital?")
        app.chat.drafts.keep()
        await ask(pilot, "")
        disk.let_go()
    app.close()
    assert store.drafts.take(NEW_CHAT) == store.drafts.take(only_chat(store).id) == ""


async def test_a_draft_that_was_not_found_yet_is_not_written_over(open_app: OpenApp, store: Store) -> None:
    chat = past_chat(store)
    store.drafts.keep(chat.id, "old", 1)
    app = open_app(conversation=chat)
    disk = SlowDisk(app.chat.behind.archive._jobs)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press(*"new")
        app.chat.drafts.keep()
        disk.let_go()
        await wait_until(pilot, lambda: prompt(pilot).text == "old\nnew")
        await wait_until(pilot, lambda: store.drafts.take(chat.id) == "old\nnew")
    app = open_app(conversation=chat)
    disk = SlowDisk(app.chat.behind.archive._jobs)
    async with app.run_test(size=(100, 30)):
        pass
    disk.let_go()
    app.close()
    assert store.drafts.take(chat.id) == "old\nnew"


@pytest.mark.parametrize("how", ["left", "come back to", "closed"])
async def test_what_is_written_before_the_draft_is_found_is_not_lost_with_the_chat(
    open_app: OpenApp, store: Store, how: str
) -> None:
    chat = past_chat(store)
    store.drafts.keep(chat.id, "old", 1)
    app = open_app(conversation=chat)
    async with app.run_test(size=(100, 30)) as pilot:
        disk = SlowDisk(app.chat.behind.archive._jobs)
        await pilot.press("ctrl+n")
        app.chat.chats.opened(ChatOpened(chat))
        await pilot.press(*"more")
        if how != "closed":
            await pilot.press("ctrl+n")
            assert prompt(pilot).text == ""
        if how == "come back to":
            app.chat.chats.opened(ChatOpened(chat))
            disk.let_go()
            await wait_until(pilot, lambda: prompt(pilot).text == "old\n\nmore")
        if how == "left":
            disk.let_go()
            await wait_until(pilot, lambda: store.drafts.take(chat.id) == "old\n\nmore")
    disk.let_go()
    app.close()
    assert store.drafts.take(chat.id) == "old\n\nmore"
    assert store.drafts.take(NEW_CHAT) == ""


async def test_a_draft_that_is_looked_for_twice_is_found_once(open_app: OpenApp, store: Store) -> None:
    store.drafts.keep(NEW_CHAT, "old", 1)
    app = open_app()
    disk = SlowDisk(app.chat.behind.archive._jobs)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press(*"new")
        for _ in range(3):
            app.chat.drafts.keep()
        disk.let_go()
        await wait_until(pilot, lambda: prompt(pilot).text == "old\nnew")
    app.close()
    assert store.drafts.take(NEW_CHAT) == "old\nnew"


async def test_a_draft_that_is_found_after_the_first_message_is_for_the_next_chat(
    open_app: OpenApp, store: Store
) -> None:
    store.drafts.keep(NEW_CHAT, "old", 1)
    app = open_app()
    disk = SlowDisk(app.chat.behind.archive._jobs)
    async with app.run_test(size=(100, 30)) as pilot:
        taken = store.drafts.take(NEW_CHAT)
        await ask(pilot, "Capital?")
        assert (taken, store.drafts.take(NEW_CHAT)) == ("old", "")
        app.chat.post_message(DraftFound(NEW_CHAT, taken))
        disk.let_go()
        await wait_until(pilot, lambda: store.drafts.take(NEW_CHAT) == "old")
        assert prompt(pilot).text == ""
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: prompt(pilot).text == "old")


async def test_a_disk_that_takes_no_draft_is_told_once(
    open_app: OpenApp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def refuse(_chat: str, text: str, _written: float) -> None:
        refused.append(text)
        raise BadStore("The disk is full.")

    monkeypatch.setattr(store.drafts, "keep", refuse)
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await wait_until(pilot, lambda: app.chat.drafts._kept)
        for number, key in enumerate("abc"):
            await pilot.press(key)
            app.chat.drafts.keep()
            await wait_until(pilot, lambda: len(refused) > number)  # noqa: B023
        await shows(pilot, "The disk is full.")
        assert screen_text(pilot).count("The disk is full.") == 1
        assert prompt(pilot).text == "abc"


async def test_a_draft_that_the_disk_refused_comes_back_with_its_chat_and_is_written_later(
    open_app: OpenApp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat, keep, full = past_chat(store), store.drafts.keep, [True]

    def refuse(chat_id: str, text: str, written: float) -> None:
        if full[0]:
            raise BadStore("The disk is full.")
        keep(chat_id, text, written)

    monkeypatch.setattr(store.drafts, "keep", refuse)
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press(*"new")
        await shows(pilot, "The disk is full.")
        app.chat.chats.choose(ChatChosen(chat.id))
        await wait_until(pilot, lambda: app.chat.conversation.id == chat.id)
        await pilot.press(*"old", "ctrl+n")
        await wait_until(pilot, lambda: prompt(pilot).text == "new")
        assert store.drafts.take(NEW_CHAT) == store.drafts.take(chat.id) == ""
        full[0] = False
    app.close()
    assert (store.drafts.take(NEW_CHAT), store.drafts.take(chat.id)) == ("new", "old")


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


async def test_what_is_still_being_read_stays_with_the_draft_it_was_for(
    open_app: OpenApp, store: Store, tmp_path: Path
) -> None:
    notes = tmp_path / "my notes.md"
    notes.write_text("the river\nis long\n")
    chat, pasted = past_chat(store), "".join(f"line {number}\n" for number in range(MOST_TYPED_LINES + 1))
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        composer = app.query_one(Composer)
        disk = SlowDisk(composer._files._jobs)
        composer.attach(notes)
        prompt(pilot).post_message(LongPaste(pasted))
        prompt(pilot).post_message(LongPaste(pasted + "other"))
        await pilot.press(*"sum")
        app.chat.chats.choose(ChatChosen(chat.id))
        await wait_until(pilot, lambda: app.chat.conversation.id == chat.id)
        composer.attach(notes)
        disk.let_go()
        await wait_until(pilot, composer.files)
        await pilot.pause(0.1)
        assert [file.name for file in composer.files()] == ["my notes.md"]
        assert prompt(pilot).text == ""
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: prompt(pilot).text == f'@"{notes}"\nsum')
        await wait_until(pilot, lambda: len(composer.files()) == 3)
        assert [file.name for file in composer.files()] == ["paste 1", "paste 2", "my notes.md"]


def only_new(store: Store, old: str) -> str:
    """The question of the chat that is not the old one."""
    (chat,) = [one for one in store.chats() if one.id != old]
    return store.load(chat.id).path()[0].text


async def test_a_message_whose_files_are_being_read_is_a_draft_until_it_is_sent(
    open_app: OpenApp, store: Store, tmp_path: Path
) -> None:
    notes, plan = tmp_path / "notes.md", tmp_path / "plan.md"
    notes.write_text("the river")
    plan.write_text("the sea")
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        composer = app.query_one(Composer)
        composer.attach(notes)
        await wait_until(pilot, composer.files)
        disk = SlowDisk(composer._files._jobs)
        typed = f"compare with @{plan} "
        await say(pilot, typed)
        await wait_until(pilot, lambda: prompt(pilot).text == "")
        app.chat.drafts.keep()
        await wait_until(pilot, lambda: store.drafts.take(NEW_CHAT).endswith(typed), "the draft on disk")
        assert "the river" in store.drafts.take(NEW_CHAT)
        disk.let_go()
        await wait_until(pilot, lambda: len(app.chat.conversation.nodes) == 2 and not app.chat.busy)
    app.close()
    assert "the sea" in only_chat(store).path()[0].text
    assert store.drafts.take(NEW_CHAT) == store.drafts.take(only_chat(store).id) == ""


async def test_the_draft_of_a_chat_that_is_deleted_comes_back_with_it(open_app: OpenApp, store: Store) -> None:
    app = open_app(conversation=past_chat(store))
    async with app.run_test(size=(100, 30)) as pilot:
        chat = app.chat.conversation.id
        await pilot.press(*"old")
        app.chat.chats.drop(ChatDropped(chat, "An old question"))
        await wait_until(pilot, lambda: app.chat.conversation.id != chat and not store.chats())
        assert prompt(pilot).text == ""
        app.chat.sidebar.restore()
        await wait_until(pilot, store.chats)
        app.chat.chats.choose(ChatChosen(chat))
        await wait_until(pilot, lambda: prompt(pilot).text == "old")


async def test_an_edit_that_is_not_sent_is_kept_beside_what_was_written_before(open_app: OpenApp, store: Store) -> None:
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await ask(pilot, "Capital?")
        chat = app.chat.conversation.id
        await pilot.press(*"next", "f4", "!")
        await wait_until(pilot, lambda: store.drafts.take(chat) == "next\n\nCapital?!")
