"""A reply goes on in its chat while another one is open."""

from __future__ import annotations

import pytest
from textual.events import AppFocus

from localllm.chat.store import Store
from localllm.errors import BadStore, ContextFull
from localllm.tui.app import ChatApp
from localllm.tui.messages import ChatChosen, ChatDropped, ChatOpened, VersionWanted
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.transcript import Transcript
from tests.tui.driving import Driver, OpenApp, ask, idle, say, screen_text, shows, wait_until
from tests.tui.fake import Garage, Script

pytestmark = pytest.mark.slow

WORDS = "One two three four five six seven eight nine ten. " * 10


async def begin(pilot: Driver, app: ChatApp) -> str:
    """Have a long reply begin, and turn to a new chat. The id of the chat of the reply."""
    await say(pilot, "Count")
    await shows(pilot, "three")
    answered = app.chat.conversation.id
    await pilot.press("ctrl+n")
    await shows(pilot, "answering in “Count”")
    return answered


async def test_a_reply_goes_on_while_another_chat_is_open_and_is_seen_to_grow_on(
    open_app: OpenApp, store: Store
) -> None:
    app = open_app(Script(reply=WORDS, piece_s=0.02))
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        answered = await begin(pilot, app)
        assert "three" not in screen_text(pilot)
        await say(pilot, "Next")
        await shows(pilot, "Ctrl+C stops it")
        assert pilot.app.query_one(Prompt).text == "Next"
        await pilot.press("escape")
        assert app.chat.busy, "Esc stops what is seen"
        app.chat.chats.choose(ChatChosen(answered))
        await shows(pilot, "three")
        assert app.chat.busy
        await shows(pilot, "esc Stop")
        await wait_until(pilot, lambda: idle(pilot), "the end of the reply")
        assert app.chat.conversation.path()[-1].text == WORDS
        assert app.query_one(Transcript).entries[-1].copied_text() == WORDS
        assert store.load(answered) == app.chat.conversation
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: pilot.app.query_one(Prompt).text == "Next", "the draft of the new chat")


async def test_what_is_found_in_another_version_of_the_chat_that_is_answered_is_shown_or_said_to_be_there(
    open_app: OpenApp, store: Store
) -> None:
    script = Script(reply="Granite.")
    app = open_app(script)
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        await ask(pilot, "Which stone?")
        found = app.chat.conversation.path()[-1].id
        script.reply, script.piece_s = WORDS, 0.02
        await pilot.press("ctrl+r")
        await shows(pilot, "three")
        app.chat.chats.choose(ChatChosen(app.chat.conversation.id, found))
        await shows(pilot, "What was found is in another version")
        assert app.chat.busy
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot), "the end of the reply")


async def test_why_nothing_can_be_edited_while_another_chat_is_answered_is_said(open_app: OpenApp) -> None:
    script = Script(reply="Granite.")
    app = open_app(script)
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        await ask(pilot, "Which stone?")
        first = app.chat.conversation.id
        await pilot.press("ctrl+n")
        script.reply, script.piece_s = WORDS, 0.02
        await begin(pilot, app)
        app.chat.chats.choose(ChatChosen(first))
        await shows(pilot, "Granite.")
        await pilot.press("f4")
        await shows(pilot, "Ctrl+C stops it.")
        await pilot.press("ctrl+c")
        await wait_until(pilot, lambda: idle(pilot), "the end of the reply")


async def test_a_version_that_is_found_in_a_chat_of_which_more_is_here_than_on_the_disk_is_shown(
    open_app: OpenApp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Script(reply="Granite.")
    app = open_app(script)
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        await ask(pilot, "Which stone?")
        found = app.chat.conversation.path()[-1].id
        script.reply = "Basalt."
        await pilot.press("ctrl+r")
        await shows(pilot, "Basalt.")
        await wait_until(pilot, lambda: idle(pilot), "the end of the reply")
        with monkeypatch.context() as broken:
            broken.setattr(store, "add", _refuse)
            await ask(pilot, "And?")
        app.chat.chats.choose(ChatChosen(app.chat.conversation.id, found))
        await shows(pilot, "Granite.")
        assert "And?" in {node.text for node in app.chat.conversation.nodes.values()}


def _refuse(*_: object, **__: object) -> None:
    raise BadStore("The disk is full.")


async def test_a_reply_that_is_made_here_is_not_called_one_of_another_window(open_app: OpenApp, store: Store) -> None:
    app = open_app(Script(reply=WORDS, piece_s=0.05))
    async with app.run_test(size=(100, 50)) as pilot:
        answered = await begin(pilot, app)
        app.chat.chats.opened(ChatOpened(store.load(answered), None))
        reply = app.query_one(Transcript).entries[-1]
        assert isinstance(reply, ReplyEntry)
        assert reply.note == ""
        await pilot.press("escape")


async def test_the_end_of_a_reply_is_told_in_the_chat_that_is_open(open_app: OpenApp, store: Store) -> None:
    app = open_app(Script(reply=WORDS, piece_s=0.005))
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        answered = await begin(pilot, app)
        await shows(pilot, "The reply in “Count” is finished.")
        assert store.load(answered).path()[-1].text == WORDS
        assert not app.chat.conversation.nodes
        await ask(pilot, "Again")
        assert [len(store.load(chat.id).nodes) for chat in store.chats()] == [2, 2]


async def test_versions_of_one_chat_are_switched_while_another_is_answered(open_app: OpenApp) -> None:
    garage = Garage(Script(reply="Paris."))
    app = open_app(garage=garage)
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        chat = app.chat.conversation
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: len(chat.nodes) == 3 and idle(pilot))
        garage.script.reply, garage.script.piece_s = WORDS, 0.1
        await pilot.press("ctrl+n")
        await begin(pilot, app)
        app.chat.chats.choose(ChatChosen(chat.id))
        await shows(pilot, "‹2/2›")
        await pilot.press("alt+left")
        await shows(pilot, "‹1/2›")
        app.chat.post_message(VersionWanted(app.chat.conversation.path()[-1].id, 1))
        await shows(pilot, "‹2/2›")
        assert app.chat.busy
        await pilot.press("ctrl+c")


async def test_a_model_that_loads_is_told_before_what_waits_for_it(open_app: OpenApp) -> None:
    async with open_app(Script(load_s=30)).run_test(size=(100, 50)) as pilot:
        await say(pilot, "Count")
        await pilot.press("ctrl+n")
        await shows(pilot, "loading ")
        assert "answering" not in screen_text(pilot)


async def test_what_is_wrong_with_another_chat_is_told_with_its_name_and_not_in_the_open_one(open_app: OpenApp) -> None:
    app = open_app(Script(load_s=1, error=ContextFull("There are 9,000 tokens to read, too many.")))
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        await say(pilot, "Count")
        await pilot.press("ctrl+n")
        await shows(pilot, "No reply in “Count”: There are 9,000 tokens")
        assert not app.query_one(Transcript).entries
        assert "F6 makes room" not in screen_text(pilot)


async def test_ctrl_c_stops_a_reply_wherever_it_is(open_app: OpenApp, store: Store) -> None:
    app = open_app(Script(reply=WORDS, piece_s=0.02))
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        answered = await begin(pilot, app)
        await pilot.press(*"mine")
        app.query_one(Prompt).select_all()
        await pilot.press("ctrl+c")
        assert app.clipboard == "mine"
        await pilot.pause(0.1)
        assert app.chat.busy, "copying stops nothing that is not seen"
        await pilot.press("end", "ctrl+c")
        await shows(pilot, "The reply in “Count” ended early: stopped.")
        assert store.load(answered).path()[-1].state == "partial"


async def test_a_chat_that_was_read_before_its_reply_ended_shows_all_of_it(open_app: OpenApp, store: Store) -> None:
    app = open_app(Script(reply=WORDS, piece_s=0.01))
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        answered = await begin(pilot, app)
        read = store.load(answered)
        assert read.path()[-1].state == "writing"
        await wait_until(pilot, lambda: idle(pilot), "the end of the reply")
        app.chat.chats.opened(ChatOpened(read, None))
        assert app.chat.conversation == store.load(answered)
        assert app.chat.conversation.path()[-1].text == WORDS


async def test_a_chat_is_not_deleted_while_it_is_answered(open_app: OpenApp, store: Store) -> None:
    app = open_app(Script(reply=WORDS, piece_s=0.02))
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        answered = await begin(pilot, app)
        app.chat.chats.drop(ChatDropped(answered, "Count"))
        await shows(pilot, "is still being made")
        await pilot.press("ctrl+c")
        await wait_until(pilot, lambda: idle(pilot))
        assert [chat.id for chat in store.chats()] == [answered]


async def test_a_reply_without_a_word_is_taken_back_where_it_was_to_be(open_app: OpenApp, store: Store) -> None:
    garage = Garage(Script(prefill_s=20))
    app = open_app(garage=garage)
    async with app.run_test(size=(100, 50), notifications=True) as pilot:
        await say(pilot, "Count")
        await shows(pilot, "reading the prompt")
        answered = app.chat.conversation.id
        await pilot.press("ctrl+n", "ctrl+c")
        await shows(pilot, "No reply in “Count”: stopped before")
        app.chat.chats.choose(ChatChosen(answered))
        await shows(pilot, "not answered")
        assert [node.role for node in app.chat.conversation.path()] == ["user"]


async def test_what_another_window_wrote_in_the_open_chat_is_told_and_shown(open_app: OpenApp, store: Store) -> None:
    app = open_app()
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "Capital of France?")
        other = store.load(app.chat.conversation.id)
        store.add(other, other.add_user("Written elsewhere."))
        app.post_message(AppFocus())
        await shows(pilot, "Another window wrote a message in this chat.")
        app.clear_notifications()
        app.post_message(AppFocus())
        await pilot.press(*"mine")
        await wait_until(pilot, lambda: "Another window" not in screen_text(pilot))
        await pilot.press("f3", "f3", "enter")
        await shows(pilot, "Written elsewhere.")
        assert app.query_one(Prompt).text == "mine"
        await ask(pilot, "And Spain?")
        assert not app._notifications
    assert [node.text for node in store.load(other.id).path() if node.role == "user"] == [
        "Capital of France?",
        "Written elsewhere.",
        "mineAnd Spain?",
    ]


async def test_what_was_told_of_one_chat_is_told_of_another_that_is_as_long(open_app: OpenApp, store: Store) -> None:
    app = open_app()
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        for question in ("Capital of France?", "Capital of Spain?"):
            await pilot.press("ctrl+n")
            await ask(pilot, question)
            app.clear_notifications()
            await wait_until(pilot, lambda: "Another window" not in screen_text(pilot), "what was told before to go")
            other = store.load(app.chat.conversation.id)
            store.add(other, other.add_user("Written elsewhere."))
            app.post_message(AppFocus())
            await shows(pilot, "Another window wrote a message in this chat.")
