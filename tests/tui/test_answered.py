"""No message stands without a word: it has a reply, or it is said why not and how it gets one."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from textual.screen import ModalScreen

from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.errors import BadModelFile, EngineDied
from localllm.tui.app import ChatApp
from localllm.tui.entries import UserEntry
from localllm.tui.messages import ChatChosen, ModelLost
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.transcript import Transcript
from tests.tui.driving import Driver, OpenApp, SlowDisk, ask, idle, only_chat, say, screen_text, shows, wait_until
from tests.tui.fake import Garage, Script
from tests.tui.test_app import PARIS, past_chat

pytestmark = pytest.mark.slow

SEEDS, ACTIONS = range(2), 40
AT_ONCE = "the model ended its answer before the first word"


def prompt(pilot: Driver) -> Prompt:
    return pilot.app.query_one(Prompt)


async def test_a_model_that_ends_at_once_is_told_and_can_be_asked_again(open_app: OpenApp, store: Store) -> None:
    script = Script(reply="")
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, AT_ONCE)
        assert [node.text for node in only_chat(store).path()] == ["Capital?"]
        script.reply = "Paris."
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: idle(pilot) and only_chat(store).path()[-1].text == "Paris.")
        assert AT_ONCE not in screen_text(pilot)


async def test_another_reply_that_ends_at_once_is_told_beside_the_one_before(open_app: OpenApp) -> None:
    script = Script()
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        script.reply = ""
        await pilot.press("ctrl+r")
        await shows(pilot, "No other reply: the model")
        await shows(pilot, PARIS)


async def test_a_reply_of_white_space_says_so(open_app: OpenApp) -> None:
    async with open_app(Script(reply=" \n\n ")).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        await shows(pilot, "nothing but white space · ")


async def test_what_was_not_answered_says_so_when_its_chat_is_opened_again(open_app: OpenApp, store: Store) -> None:
    chat = Conversation()
    store.add(chat, chat.add_user("Capital?"))
    script = Script()
    async with open_app(script, conversation=chat).run_test(size=(100, 30), notifications=True) as pilot:
        await shows(pilot, "not answered · Ctrl+R answers")
        await ask(pilot, "Of France.")
        await shows(pilot, PARIS)
        assert "not answered" not in screen_text(pilot)


async def test_a_model_that_does_not_load_for_another_reply_is_told(open_app: OpenApp) -> None:
    garage = Garage(Script())
    app = open_app(garage=garage)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        garage.script.load_s, garage.script.load_error = 0.3, BadModelFile("It is truncated.")
        app.chat.loaded.load_again()
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: idle(pilot) and app.chat.behind.loader.state == "failed")
        await shows(pilot, "It is truncated.")
        assert screen_text(pilot).count("It is truncated.") == 1


async def test_the_palette_does_not_take_the_model_from_a_reply(open_app: OpenApp) -> None:
    garage = Garage(Script(prefill_s=30))
    app = open_app(garage=garage)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "reading the prompt")
        app.chat.action_reload()
        await shows(pilot, "The reply is still being made.")
        assert not garage.models[0].closed
        await pilot.press("escape")


async def test_an_engine_that_dies_while_the_model_loads_is_told(open_app: OpenApp) -> None:
    garage = Garage(Script(prefill_s=0.5, error=EngineDied("The engine ended.")))
    garage.script.dies_after = 1
    app = open_app(garage=garage)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "reading the prompt")
        # The sampler meets the death first, and the person loads the model again before the reply has met it.
        app.chat.post_message(ModelLost(EngineDied("The engine ended.")))
        await wait_until(pilot, lambda: app.chat.behind.loader.state == "failed")
        assert screen_text(pilot).count("The engine ended.") == 1
        app.chat.loaded.load_again()
        await wait_until(pilot, lambda: idle(pilot))
        await shows(pilot, "The engine ended.")


async def test_a_message_that_waits_for_a_file_is_not_lost_to_the_next(open_app: OpenApp, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("the river")
    app = open_app()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        composer = app.chat.talk.composer
        disk = SlowDisk(composer._files._jobs)
        composer.attach(notes)
        await say(pilot, "First.")
        await say(pilot, "Second.")
        await shows(pilot, "The message before is still on its way.")
        assert prompt(pilot).text == "Second."
        disk.let_go()
        await wait_until(pilot, lambda: len(app.chat.conversation.nodes) == 2 and idle(pilot))
        assert app.chat.conversation.path()[0].text.endswith("the river\n```\n\nFirst.")
        assert prompt(pilot).text == "Second."


async def test_a_message_that_is_being_made_is_not_lost_to_the_next(open_app: OpenApp, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("the river")
    app = open_app()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        disk = SlowDisk(app.chat.talk.composer._files._jobs)
        await say(pilot, f"Read @{notes}")
        await say(pilot, "Second.")
        await shows(pilot, "The message before is still on its way.")
        assert prompt(pilot).text == "Second."
        disk.let_go()
        await wait_until(pilot, lambda: len(app.chat.conversation.nodes) == 2 and idle(pilot))
        assert "the river" in app.chat.conversation.path()[0].text
        assert prompt(pilot).text == "Second."


async def test_a_message_that_is_made_too_late_does_not_take_the_place_of_one_in_another_chat(
    open_app: OpenApp, store: Store, tmp_path: Path
) -> None:
    notes, chat = tmp_path / "notes.md", past_chat(store)
    notes.write_text("the river")
    app = open_app()
    async with app.run_test(size=(100, 30)) as pilot:
        disk = SlowDisk(app.chat.talk.composer._files._jobs)
        await say(pilot, f"First, @{notes}")
        app.chat.chats.choose(ChatChosen(chat.id))
        await wait_until(pilot, lambda: app.chat.conversation.id == chat.id)
        await say(pilot, f"Second, @{notes}")
        disk.let_go()
        await wait_until(pilot, lambda: len(store.load(chat.id).nodes) == 4 and idle(pilot))
        assert app.chat.conversation.path()[2].text.endswith(f"Second, @{notes}")
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: prompt(pilot).text == f"First, @{notes}", "the draft of the new chat")


async def test_a_message_goes_to_no_chat_but_the_one_it_was_written_in(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        asked = app.chat.conversation.id
        app.chat.sending.send("Read this.")
        app.chat.chats.new()
        await shows(pilot, "was not sent yet")
        assert prompt(pilot).text == ""
        assert not app.chat.conversation.nodes
        app.chat.chats.choose(ChatChosen(asked))
        await wait_until(pilot, lambda: prompt(pilot).text == "Read this.", "the draft in its chat")
        assert len(app.chat.conversation.nodes) == 2


async def act(pilot: Driver, app: ChatApp, store: Store, garage: Garage, chance: random.Random) -> None:
    """Something that a hasty person does, while the model does as it likes."""
    script = garage.script
    script.reply = chance.choice(["", " ", "Paris.", "Paris is the capital of France."])
    script.prefill_s, script.piece_s = chance.choice([0, 0.05]), chance.choice([0, 0.01])
    script.load_s = chance.choice([0, 0.1])
    script.error = chance.choice([None, None, None, EngineDied("The engine ended.")])
    script.load_error = chance.choice([None, None, None, BadModelFile("It is truncated.")])
    script.dies_after = chance.choice([0, 1])
    deed = chance.choice(
        ["say", "say", "say", "stop", "again", "go on", "edit", "new", "open", "load", "dialog", "set"]
    )
    if deed == "say":
        await say(pilot, f"Question {chance.randrange(1000)}?")
    elif deed == "open" and store.chats():
        app.chat.chats.choose(ChatChosen(chance.choice(store.chats()).id))
    elif deed == "load":
        app.chat.action_reload()
    elif deed == "dialog":
        await pilot.press(chance.choice(["f7", "f1", "f6"]), "escape")
    elif deed == "set":
        await say(pilot, "/set temperature 0.5")
    elif deed == "edit":
        await pilot.press("f4")
        await say(pilot, " Or not?")
    else:
        await pilot.press({"stop": "escape", "again": "ctrl+r", "go on": "ctrl+g", "new": "ctrl+n"}.get(deed, "escape"))
    await asyncio.sleep(chance.choice([0, 0, 0.02, 0.1]))


def is_told(app: ChatApp) -> bool:
    """Whether the last message of the open chat has a reply, or it is said below why it has none."""
    path, entries = app.chat.conversation.path(), app.query_one(Transcript).entries
    if not path:
        return True
    below = list(reversed([entry for entry in entries if not isinstance(entry, UserEntry)]))
    notes = [entry.note for entry in below if isinstance(entry, ReplyEntry) and not entry.message]
    return (
        bool(notes and "Ctrl+R answers" in notes[0])
        if path[-1].role == "user"
        else any(isinstance(entry, ReplyEntry) and entry.message == path[-1].id and entry.note for entry in below)
    )


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_a_hasty_person_does_no_message_stands_without_a_word(
    open_app: OpenApp, store: Store, seed: int
) -> None:
    chance, garage = random.Random(seed), Garage(Script())
    app = open_app(garage=garage)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        said: set[str] = set()
        for _ in range(ACTIONS):
            for _ in range(chance.randint(1, 3)):
                await act(pilot, app, store, garage, chance)
                if isinstance(app.screen, ModalScreen):
                    await pilot.press("escape")
            await wait_until(pilot, lambda: idle(pilot))
            assert is_told(app), screen_text(pilot)
            said |= {node.id for node in app.chat.conversation.nodes.values() if node.role == "user"}
        chats = [store.load(entry.id) for entry in store.chats()]
        assert said <= {node.id for chat in chats for node in chat.nodes.values() if node.role == "user"}
