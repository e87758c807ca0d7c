"""Versions of messages in the app: editing, answering again, switching, forking; nothing is ever lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.chat.attachments import Attachment, split
from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.chat.transfer import read_file
from localllm.runtime.types import Message
from localllm.tui.app import ChatApp
from localllm.tui.screens.chat import ChatScreen
from localllm.tui.widgets.composer import Composer
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.transcript import Transcript
from tests.tui.driving import Driver, OpenApp, ask, idle, only_chat, say, screen_text, shows, wait_until
from tests.tui.fake import Garage, Script

pytestmark = pytest.mark.slow

PARIS = "The capital of France is **Paris**."


def prompt(pilot: Driver) -> Prompt:
    return pilot.app.query_one(Prompt)


def open_chat(pilot: Driver) -> ChatScreen:
    app = pilot.app
    assert isinstance(app, ChatApp)
    return app.chat


def texts(chat: Conversation) -> list[str]:
    return [node.text for node in chat.path()]


async def test_editing_an_earlier_message_begins_a_branch_and_sends_only_what_is_above(
    open_app: OpenApp, store: Store
) -> None:
    garage = Garage(Script(reply="One."))
    async with open_app(garage=garage).run_test(size=(110, 40), notifications=True) as pilot:
        await ask(pilot, "First?")
        await ask(pilot, "Second?")
        prompt(pilot).insert("a draft")
        await pilot.press("alt+up", "alt+up", "alt+up", "alt+up", "f4")
        await shows(pilot, "Editing your message · Esc leaves it")
        assert prompt(pilot).text == "First?"
        await shows(pilot, "esc Leave it")
        assert open_chat(pilot).sending.given() == [], "what is forecast is the message in its place"
        prompt(pilot).text = "Changed?"
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(garage.models[0].asked) == 3 and idle(pilot))
        await shows(pilot, "‹2/2›")
        assert "Second?" not in screen_text(pilot)
        assert "Editing" not in screen_text(pilot)
        assert prompt(pilot).text == "a draft"
        assert garage.models[0].asked[2] == [Message("user", "Changed?")]
        chat = only_chat(store)
        assert texts(chat) == ["Changed?", "One."]
        assert len(chat.nodes) == 6
        await pilot.press("alt+up", "alt+up", "alt+left")
        await shows(pilot, "‹1/2›")
        await shows(pilot, "Second?")
        await wait_until(pilot, lambda: texts(only_chat(store)) == ["First?", "One.", "Second?", "One."])


async def test_the_version_keys_go_up_to_the_nearest_message_with_versions_or_say_that_there_is_none(
    open_app: OpenApp,
) -> None:
    async with open_app().run_test(size=(110, 40), notifications=True) as pilot:
        await ask(pilot, "First?")
        await pilot.press("alt+left")
        await shows(pilot, "No message from here up has another version.")
        await pilot.press("f4")
        prompt(pilot).text = "Changed?"
        await pilot.press("enter")
        await shows(pilot, "‹2/2›")
        await wait_until(pilot, lambda: idle(pilot))
        await pilot.press("alt+left")
        await shows(pilot, "‹1/2›")
        assert texts(open_chat(pilot).conversation)[0] == "First?"
        await pilot.press("alt+left")
        await shows(pilot, "This is the first of 2 versions.")
        await pilot.press("alt+right")
        await shows(pilot, "‹2/2›")


async def test_to_go_on_with_a_reply_that_is_whole_is_answered(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(110, 40), notifications=True) as pilot:
        await ask(pilot, "First?")
        await pilot.press("ctrl+g")
        await shows(pilot, "No reply here ended early.")
        assert "Go on" not in screen_text(pilot)


async def test_esc_leaves_a_message_as_it_is_and_brings_the_draft_back(open_app: OpenApp, store: Store) -> None:
    async with open_app().run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "/ is no command")
        prompt(pilot).insert("a draft")
        await pilot.press("alt+up", "alt+up", "f4")
        assert prompt(pilot).text == "// is no command"
        await pilot.press("escape")
        assert prompt(pilot).text == "a draft"
        assert "Editing" not in screen_text(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(only_chat(store).path()) == 4 and idle(pilot))
    assert texts(only_chat(store))[2] == "a draft"


async def test_a_reply_can_be_edited_and_the_talk_goes_on_from_it(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        await pilot.press("alt+up", "f4")
        await shows(pilot, "Editing the reply")
        prompt(pilot).text = "It is Lyon."
        await pilot.press("enter")
        await shows(pilot, "It is Lyon.")
        await shows(pilot, "‹2/2›")
        await wait_until(pilot, lambda: texts(only_chat(store)) == ["Capital?", "It is Lyon."])
        assert len(garage.models[0].asked) == 1
        await ask(pilot, "Sure?")
        await wait_until(pilot, lambda: len(only_chat(store).path()) == 4)
    assert garage.models[0].asked[1][1] == Message("assistant", "It is Lyon.")
    assert len(only_chat(store).nodes) == 5


async def test_an_earlier_reply_is_answered_again(open_app: OpenApp, store: Store) -> None:
    script = Script(reply="One.")
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "First?")
        await ask(pilot, "Second?")
        script.reply = "Otherwise."
        await pilot.press("alt+up", "alt+up", "alt+up", "ctrl+r")
        await shows(pilot, "Otherwise.")
        await wait_until(pilot, lambda: idle(pilot))
        assert texts(only_chat(store)) == ["First?", "Otherwise."]
        script.prefill_s = 30
        await pilot.press("alt+left", "alt+up", "alt+up", "alt+up")
        await shows(pilot, "Second?")
        await pilot.press("ctrl+r")
        await shows(pilot, "reading the prompt")
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
        await shows(pilot, "Second?")
    assert len(only_chat(store).nodes) == 5


async def test_a_click_on_the_arrows_switches(open_app: OpenApp) -> None:
    script = Script()
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        script.reply = "It is Lyon."
        await pilot.press("ctrl+r")
        await shows(pilot, "‹2/2›")
        await wait_until(pilot, lambda: idle(pilot))
        for end, place in ((0, "‹1/2›"), (4, "‹2/2›")):
            shown = screen_text(pilot).splitlines()
            row = next(at for at, line in enumerate(shown) if "/2›" in line)
            region = pilot.app.query_one(Transcript).region
            await pilot.click(Transcript, offset=(shown[row].index("‹") + end - region.x, row - region.y))
            await shows(pilot, place)


async def test_commands_undo_fork_edit_and_save(open_app: OpenApp, store: Store, tmp_path: Path) -> None:
    garage = Garage(Script(reply="One."))
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "First?")
        await ask(pilot, "Second?")
        await say(pilot, "/undo")
        await wait_until(pilot, lambda: prompt(pilot).text == "Second?")
        await wait_until(pilot, lambda: texts(only_chat(store)) == ["First?", "One."])
        prompt(pilot).clear()
        await say(pilot, "/edit Other?")
        await wait_until(pilot, lambda: len(garage.models[0].asked) == 3 and idle(pilot))
        assert texts(only_chat(store)) == ["Other?", "One."]
        await say(pilot, "/fork")
        await shows(pilot, "Fork of Other?")
        await shows(pilot, "This is a fork now, with 2 messages.")
        await wait_until(pilot, lambda: len(store.chats()) == 2)
        await say(pilot, f"/save {tmp_path / 'fork.json'}")
        await wait_until(pilot, lambda: (tmp_path / "fork.json").exists())
        await wait_until(pilot, lambda: read_file(tmp_path / "fork.json")[0].title == "Fork of Other?")
        await say(pilot, "/save " + str(tmp_path / "fork.json"))
        await shows(pilot, "already")


async def test_a_question_is_taken_back_with_its_files_before_what_is_being_written(
    open_app: OpenApp, store: Store, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("the river is long")
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        composer = app.query_one(Composer)
        composer.attach(notes)
        await wait_until(pilot, composer.files)
        await ask(pilot, "//home?")
        await pilot.press(*"next")
        app.chat.branches.undo()
        assert prompt(pilot).text == "//home?\nnext"
        assert [(file.name, file.text) for file in composer.files()] == [("notes.md", "the river is long")]
        await ask(pilot, "")
        assert [split(one.text)[1] for one in only_chat(store).nodes.values() if one.role == "user"] == [
            "/home?",
            "/home?\nnext",
        ]


async def test_commands_of_chats_and_settings(open_app: OpenApp, store: Store) -> None:
    app = open_app()
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await say(pilot, "/pin")
        await shows(pilot, "not kept")
        prompt(pilot).clear()
        await say(pilot, "/system Be brief.")
        await say(pilot, "/set temperature 0.3")
        await shows(pilot, "temperature = 0.3")
        await ask(pilot, "Capital?")
        await say(pilot, "/rename A city")
        await wait_until(pilot, lambda: [chat.title for chat in store.chats()] == ["A city"])
        await say(pilot, "/pin")
        await wait_until(pilot, lambda: store.chats()[0].pinned)
        await wait_until(pilot, lambda: app.chat.conversation.pinned, "what /save writes")
        chat = only_chat(store)
        assert (chat.system, chat.settings["sampling"]) == ("Be brief.", {"temperature": 0.3})
        await say(pilot, "/delete")
        await wait_until(pilot, lambda: not store.chats())
        await say(pilot, "/restore")
        await wait_until(pilot, lambda: len(store.chats()) == 1)
        await say(pilot, "/open a city")
        await shows(pilot, "The capital of France")
        await say(pilot, "/open nowhere")
        await shows(pilot, "There is no chat 'nowhere'")
        await say(pilot, "/chats capital")
        await shows(pilot, "Capital?")


async def test_an_edit_shows_the_words_and_the_files_and_sends_each_once(
    open_app: OpenApp, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notes, other = tmp_path / "notes.md", tmp_path / "other.md"
    notes.write_text("the river is long\n")
    other.write_text("the lake is deep\n")
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        composer = app.query_one(Composer)
        await ask(pilot, "How long? @notes.md")
        notes.unlink()
        composer.attach(other)
        await wait_until(pilot, composer.files)
        prompt(pilot).insert("a draft")
        await pilot.press("f4")
        assert prompt(pilot).text == "How long? @notes.md"
        assert composer.files() == [Attachment("notes.md", "the river is long")]
        await ask(pilot, " And how wide?")
        first, edited = (node.text for node in only_chat(store).nodes.values() if node.role == "user")
        assert edited == f"{first} And how wide?"
        assert prompt(pilot).text == "a draft"
        assert [file.name for file in composer.files()] == ["other.md"]


async def test_an_edit_without_a_file_reads_anew_what_its_words_name(
    open_app: OpenApp, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    notes = tmp_path / "notes.md"
    notes.write_text("the river is long")
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await ask(pilot, "@notes.md How long?")
        notes.write_text("the river is short")
        await pilot.press("f4", "ctrl+home", "backspace")
        await shows(pilot, "named in the text")
        await ask(pilot, "")
        assert split(only_chat(store).path()[0].text) == (
            [Attachment("notes.md", "the river is short")],
            "@notes.md How long?",
        )


async def test_edit_with_words_keeps_the_files_and_reads_those_it_names(
    open_app: OpenApp, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("notes.md", "more.md"):
        (tmp_path / name).write_text(name)
    async with open_app().run_test(size=(100, 30)) as pilot:
        await ask(pilot, "@notes.md How long?")
        await ask(pilot, "/edit How wide? @more.md")
        files, said = split(only_chat(store).path()[0].text)
        assert ([file.name for file in files], said) == (["notes.md", "more.md"], "How wide? @more.md")


async def test_what_was_being_written_before_an_edit_and_the_edit_are_both_a_draft(
    open_app: OpenApp, store: Store, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("the river is long")
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        composer = app.query_one(Composer)
        await ask(pilot, "First?")
        prompt(pilot).insert("a draft")
        composer.attach(notes)
        await wait_until(pilot, composer.files)
        await pilot.press("f4")
        chat = app.chat.conversation.id
        await wait_until(pilot, lambda: store.drafts.take(chat).endswith("\n\na draft"), "the draft alone")
        prompt(pilot).insert(" Changed")
        await wait_until(pilot, lambda: store.drafts.take(chat).endswith("\n\na draft\n\nFirst? Changed"), "both")
        assert [file.name for file in split(store.drafts.take(chat))[0]] == ["notes.md"]
        await pilot.press("escape")
        assert prompt(pilot).text == "a draft"
        assert [file.name for file in composer.files()] == ["notes.md"]
