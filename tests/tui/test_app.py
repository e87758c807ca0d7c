"""The app as a person uses it, over a fake model: keys in, the screen and the disk out."""

from __future__ import annotations

import asyncio

import pytest
from textual import message

from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.errors import ContextFull, DoesNotFit, EngineDied
from localllm.runtime.types import Message, Stats
from localllm.tui.widgets.chat_list import ChatList
from localllm.tui.widgets.memory_panel import MemoryPanel
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.sidebar import Sidebar
from tests.tui.driving import Driver, OpenApp, ask, idle, only_chat, say, screen_text, shows, wait_until
from tests.tui.fake import FakeResponder, Garage, Script

SLOW = Script(reply="One two three four five six seven eight nine ten. " * 40, piece_s=0.01)
PARIS = "The capital of France is Paris."


def past_chat(store: Store, question: str = "An old question", answer: str = "An old answer.") -> Conversation:
    chat = Conversation()
    store.add(chat, chat.add_user(question))
    reply = chat.add_reply(chat.path()[-1].id)
    store.add(chat, chat.extend(reply.id, answer))
    store.update(chat.finish(reply.id, Stats(10, 4, 3, 0.1, 100.0, 30.0, "end"), model="m"))
    return chat


@pytest.mark.slow
async def test_a_message_gets_a_reply_on_the_screen_and_on_disk(open_app: OpenApp, store: Store) -> None:
    async with open_app().run_test(size=(120, 36), notifications=True) as pilot:
        await ask(pilot, "Capital of France?")
        screen = screen_text(pilot)
        assert "▌ Capital of France?" in screen
        assert PARIS in screen
        assert "34.1 tok/s" in screen
        assert "first token 0.12 s" in screen
        assert "fake-1b Q4_K_M" in screen
    question, reply = only_chat(store).path()
    assert (question.role, question.text) == ("user", "Capital of France?")
    assert (reply.text, reply.state, reply.model) == ("The capital of France is **Paris**.", "done", "fake-1b")
    assert reply.stats is not None


@pytest.mark.slow
async def test_a_second_turn_sends_the_whole_path_and_shows_what_was_reused(open_app: OpenApp) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        await ask(pilot, "France?")
        await ask(pilot, "Sure?")
        await shows(pilot, "reused 14 of 22")
    assert garage.models[0].asked[1] == [
        Message("user", "France?"),
        Message("assistant", "The capital of France is **Paris**."),
        Message("user", "Sure?"),
    ]


@pytest.mark.slow
async def test_one_letter_is_a_message_and_space_is_not(open_app: OpenApp, store: Store) -> None:
    async with open_app().run_test(notifications=True) as pilot:
        await say(pilot, "  ")
        await pilot.press("backspace", "backspace")
        await ask(pilot, "y")
    assert only_chat(store).path()[0].text == "y"


@pytest.mark.slow
@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_stopping_while_words_arrive_keeps_them(open_app: OpenApp, store: Store, key: str) -> None:
    async with open_app(SLOW).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Count")
        await shows(pilot, "three")
        await pilot.press(key)
        await wait_until(pilot, lambda: idle(pilot))
        assert "stopped · Ctrl+G goes on" in screen_text(pilot)
        assert pilot.app.is_running
    reply = only_chat(store).path()[-1]
    assert reply.state == "partial"
    assert reply.text.startswith("One two three")
    assert SLOW.reply.startswith(reply.text)
    assert reply.text != SLOW.reply


@pytest.mark.slow
async def test_stopping_in_prefill_keeps_the_message_and_ctrl_r_answers_it(open_app: OpenApp, store: Store) -> None:
    script = Script(prefill_s=15)
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "reading the prompt")
        await shows(pilot, "reading 6 tokens")
        await shows(pilot, "prompt 1 / 6")
        await pilot.press("escape")
        await shows(pilot, "stopped before the first word")
        assert [node.text for node in only_chat(store).path()] == ["Capital?"]
        script.prefill_s = 0
        await pilot.press("ctrl+r")
        await shows(pilot, PARIS)
        await wait_until(pilot, lambda: idle(pilot))
    assert [node.role for node in only_chat(store).path()] == ["user", "assistant"]


@pytest.mark.slow
async def test_a_message_waits_for_the_model_and_is_on_disk_meanwhile(open_app: OpenApp, store: Store) -> None:
    async with open_app(Script(load_s=1.0)).run_test(size=(100, 30), notifications=True) as pilot:
        await shows(pilot, "loading")
        await say(pilot, "Capital?")
        await shows(pilot, "waiting for the model")
        await wait_until(pilot, lambda: store.chats())
        await shows(pilot, PARIS)


@pytest.mark.slow
async def test_stopping_while_the_model_loads(open_app: OpenApp, store: Store) -> None:
    garage = Garage(Script(load_s=1.0))
    async with open_app(garage=garage).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "waiting for the model")
        await pilot.press("escape")
        await shows(pilot, "stopped before the first word")
        await wait_until(pilot, lambda: garage.models, "the model to load all the same")
        assert garage.models[0].asked == []
    assert [node.text for node in only_chat(store).path()] == ["Capital?"]


@pytest.mark.slow
async def test_regenerating_keeps_the_old_reply_and_both_can_be_seen(open_app: OpenApp, store: Store) -> None:
    script = Script()
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        script.reply = "It is Lyon."
        await pilot.press("ctrl+r")
        await shows(pilot, "‹2/2›")
        assert "It is Lyon." in screen_text(pilot)
        assert PARIS not in screen_text(pilot)
        await pilot.press("alt+left")
        await shows(pilot, PARIS)
        assert "‹1/2›" in screen_text(pilot)
    chat = only_chat(store)
    assert [node.text for node in chat.children(chat.path()[0].id)] == [
        "The capital of France is **Paris**.",
        "It is Lyon.",
    ]
    assert chat.path()[-1].text == "The capital of France is **Paris**."


@pytest.mark.slow
async def test_a_second_reply_that_is_stopped_at_once_leaves_the_first_in_place(
    open_app: OpenApp, store: Store
) -> None:
    script = Script()
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        script.prefill_s = 30
        await pilot.press("ctrl+r")
        await shows(pilot, "reading the prompt")
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
        script.prefill_s = 0
        await ask(pilot, "Sure?")
    assert [node.text for node in only_chat(store).path()][1] == "The capital of France is **Paris**."


async def test_a_reply_that_repeats_itself_is_told_so_and_not_to_take_more_room(open_app: OpenApp) -> None:
    script = Script(reply="The sky is blue because it is blue. " * 12, stop_reason="context")
    async with open_app(script).run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, "Tell")
        await shows(pilot, "it repeats itself: a repeat penalty (F7) may help")
        assert "F6 makes room" not in screen_text(pilot)


async def test_that_a_reply_repeats_itself_is_said_while_it_is_written(open_app: OpenApp) -> None:
    script = Script(reply="The sky is blue because it is blue. " * 300, piece_s=0.002)
    async with open_app(script).run_test(size=(100, 40), notifications=True) as pilot:
        await say(pilot, "Tell")
        await shows(pilot, "repeating itself · Esc stops")
        await pilot.press("escape")
        await shows(pilot, "stopped · it repeats itself: a repeat penalty (F7) may help")


@pytest.mark.slow
async def test_going_on_extends_the_partial_reply(open_app: OpenApp, store: Store) -> None:
    garage = Garage(Script(reply="First half", stop_reason="length"))
    async with open_app(garage=garage).run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Tell")
        assert "cut at the limit of tokens · Ctrl+G goes on" in screen_text(pilot)
        garage.script.reply, garage.script.stop_reason = ", second half.", "end"
        await pilot.press("ctrl+g")
        await shows(pilot, "First half, second half.")
        await wait_until(pilot, lambda: idle(pilot))
        assert "goes on" not in screen_text(pilot)
    assert garage.models[0].asked[1][-1] == Message("assistant", "First half")
    chat = only_chat(store)
    assert [node.text for node in chat.path()] == ["Tell", "First half, second half."]
    assert chat.path()[-1].state == "done"
    assert len(chat.nodes) == 2


@pytest.mark.slow
async def test_a_new_chat_and_back_to_the_old_one(open_app: OpenApp, store: Store) -> None:
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "First question")
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: PARIS not in screen_text(pilot))
        await ask(pilot, "Second question")
        await wait_until(pilot, lambda: len(store.chats()) == 2)
        await pilot.press("f3", "f3")
        await wait_until(pilot, lambda: isinstance(pilot.app.focused, ChatList))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: screen_text(pilot).count("First question") == 3)
        assert isinstance(pilot.app.focused, Prompt)
    assert [entry.messages for entry in store.chats()] == [2, 2]


@pytest.mark.slow
async def test_chats_are_listed_on_start_and_a_partial_reply_is_offered(open_app: OpenApp, store: Store) -> None:
    chat = past_chat(store, "Interrupted question")
    reply = chat.add_reply(chat.add_user("And then?").id)
    store.add(chat, chat.path()[-2])
    store.add(chat, chat.extend(reply.id, "Half of an"))
    store.update(chat.finish(reply.id, None))
    async with open_app(Script(reply=" answer.")).run_test(size=(160, 40), notifications=True) as pilot:
        await shows(pilot, "Interrupted question")
        await pilot.press("f3", "f3", "enter")
        await shows(pilot, "interrupted · Ctrl+G goes on")
        await pilot.press("ctrl+g")
        await shows(pilot, "Half of an answer.")


@pytest.mark.slow
async def test_deleting_a_chat_can_be_undone(open_app: OpenApp, store: Store) -> None:
    past_chat(store, "Keep me [/b]")
    async with open_app().run_test(size=(160, 40), notifications=True) as pilot:
        await shows(pilot, "Keep me")
        await pilot.press("f3", "f3", "delete")
        await wait_until(pilot, lambda: not store.chats())
        await shows(pilot, "Deleted “Keep me [/b]”")
        await pilot.press("ctrl+z")
        await wait_until(pilot, lambda: len(store.chats()) == 1)
        await wait_until(pilot, lambda: pilot.app.query_one(ChatList).option_count == 1)


@pytest.mark.slow
async def test_when_the_engine_dies_the_words_stay_and_f5_brings_it_back(open_app: OpenApp, store: Store) -> None:
    script = Script(reply="Some words and more", dies_after=3, error=EngineDied("The engine ended.", hint="Sorry."))
    garage = Garage(script)
    async with open_app(garage=garage).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Go")
        await shows(pilot, "The engine ended.")
        screen = screen_text(pilot)
        assert "Some words" in screen
        assert "interrupted" in screen
        assert "Sorry." in screen
        assert "F5 loads the model again." in screen
        assert screen.count("The engine ended.") == 1
        await say(pilot, "More?")
        await shows(pilot, "No model is loaded.")
        assert pilot.app.query_one(Prompt).text == "More?"
        script.error = None
        await pilot.press("f5")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[0].closed
        await pilot.press("ctrl+r")
        await shows(pilot, "Some words and more")
        await wait_until(pilot, lambda: idle(pilot))
    assert [node.state for node in only_chat(store).nodes.values()] == ["done", "partial", "done"]


@pytest.mark.slow
async def test_an_engine_that_dies_while_nobody_waits_is_noticed(open_app: OpenApp) -> None:
    script = Script()
    async with open_app(script).run_test(size=(120, 30), notifications=True) as pilot:
        await shows(pilot, "of these in RAM")
        script.memory_error = EngineDied("The engine was killed.")
        await shows(pilot, "The engine was killed.")
        await shows(pilot, "no model is loaded")


@pytest.mark.slow
async def test_a_model_that_does_not_load_says_why_and_can_be_tried_again(open_app: OpenApp) -> None:
    script = Script(load_error=DoesNotFit("The weights need 9.0 GiB.", hint="Try a smaller context."))
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await shows(pilot, "The weights need 9.0 GiB.")
        assert "Try a smaller context." in screen_text(pilot)
        script.load_error = None
        await pilot.press("f5")
        await shows(pilot, "fake-1b")
        await ask(pilot, "Capital?")
        assert PARIS in screen_text(pilot)


@pytest.mark.slow
async def test_a_message_that_waited_for_a_model_that_does_not_load_stays(open_app: OpenApp, store: Store) -> None:
    script = Script(load_s=0.5, load_error=DoesNotFit("The weights need 9.0 GiB."))
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "The weights need 9.0 GiB.")
        await wait_until(pilot, lambda: idle(pilot))
        assert screen_text(pilot).count("The weights need 9.0 GiB.") == 1
    assert [node.text for node in only_chat(store).path()] == ["Capital?"]


@pytest.mark.slow
async def test_a_full_context_is_explained_and_the_conversation_stays(open_app: OpenApp, store: Store) -> None:
    script = Script(error=ContextFull("The conversation is 12 tokens too long.", hint="Begin a new chat."))
    async with open_app(script).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "12 tokens too long")
        await shows(pilot, "not answered · F6 makes room")
        await shows(pilot, "F6 makes room.")
        assert "Begin a new chat." not in screen_text(pilot)
        assert "no model" not in screen_text(pilot)
    assert [node.text for node in only_chat(store).path()] == ["Capital?"]


@pytest.mark.slow
async def test_ctrl_c_never_quits_and_says_what_does(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 30), notifications=True) as pilot:
        await pilot.press("ctrl+c")
        await shows(pilot, "Ctrl+Q quits.")
        assert pilot.app.is_running
        await pilot.press("ctrl+q")
        await wait_until(pilot, lambda: not pilot.app.is_running)


@pytest.mark.slow
async def test_a_message_is_refused_politely_while_a_reply_is_made(open_app: OpenApp, store: Store) -> None:
    async with open_app(SLOW).run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Count")
        await shows(pilot, "three")
        await say(pilot, "Next")
        await shows(pilot, "Esc stops it")
        assert pilot.app.query_one(Prompt).text == "Next"
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
    assert len(only_chat(store).path()) == 2


@pytest.mark.slow
async def test_sixty_columns_hide_the_panels_and_keys_show_them_over_the_talk(open_app: OpenApp, store: Store) -> None:
    past_chat(store, "An old chat")
    async with open_app().run_test(size=(60, 24), notifications=True) as pilot:
        await ask(pilot, "Capital of France, please, in one sentence that is long enough to wrap?")
        screen = screen_text(pilot)
        assert max(len(line) for line in screen.splitlines()) <= 60
        assert PARIS in screen
        assert "Memory" not in screen.splitlines()[0]
        assert not pilot.app.query_one(MemoryPanel).display
        await pilot.press("f2")
        await shows(pilot, "KV cache")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "KV cache" not in screen_text(pilot))
        await pilot.press("f3")
        await shows(pilot, "An old chat")
        await pilot.press("down", "enter")
        await shows(pilot, "An old answer.")
        assert not pilot.app.query_one(Sidebar).display


@pytest.mark.slow
async def test_memory_is_shown_and_sampled_only_while_it_is_seen(open_app: OpenApp) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        await shows(pilot, "667.6 MiB")
        for text in ("619.9 MiB of these in RAM", "KV cache", "200.0 MiB", "12.0 GiB available", "24 layers"):
            assert text in screen_text(pilot)
        await pilot.press("f2")
        await wait_until(pilot, lambda: "KV cache" not in screen_text(pilot))
        taken = garage.models[0].sampled
        await pilot.pause(1.5)
        assert garage.models[0].sampled <= taken + 1


@pytest.mark.slow
async def test_help_lists_the_keys(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 44), notifications=True) as pilot:
        await pilot.press("f1")
        await shows(pilot, "answer again; the old reply is kept")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "answer again" not in screen_text(pilot))


@pytest.mark.slow
async def test_quitting_while_words_arrive_keeps_them(open_app: OpenApp, store: Store) -> None:
    app = open_app(SLOW)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Count")
        await shows(pilot, "three")
        await pilot.press("ctrl+q")
        await wait_until(pilot, lambda: not app.is_running)
    app.close()
    reply = only_chat(store).path()[-1]
    assert reply.state == "partial"
    assert reply.text.startswith("One two three")
    assert reply.stats is not None
    assert reply.stats.stop_reason == "cancelled"


@pytest.mark.slow
async def test_a_chat_in_another_app_is_shown_as_being_written(open_app: OpenApp, store: Store) -> None:
    first, second = open_app(SLOW), open_app()
    async with first.run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "Count")
        await shows(pilot, "three")
        await wait_until(pilot, lambda: store.chats())
        async with second.run_test(size=(160, 40), notifications=True) as other:
            await shows(other, "Count")
            await other.press("f3", "f3", "enter")
            await shows(other, "being written in another window")
            assert "Go on" not in screen_text(other)


@pytest.mark.slow
async def test_the_command_palette_offers_a_new_chat(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        await pilot.press("ctrl+p")
        await pilot.press(*"new chat")
        await shows(pilot, "Begin a new conversation")
        await pilot.press("enter")
        await wait_until(pilot, lambda: "Begin a new conversation" not in screen_text(pilot))
        await wait_until(pilot, lambda: PARIS not in screen_text(pilot))


@pytest.mark.slow
async def test_text_that_is_selected_is_copied_with_ctrl_c(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 30), notifications=True) as pilot:
        pilot.app.query_one(Prompt).insert("some words")
        await pilot.press("ctrl+shift+left")
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert pilot.app.clipboard == "words"
        assert "Ctrl+Q quits" not in screen_text(pilot)


@pytest.mark.slow
async def test_a_mistake_of_ours_is_not_hidden_and_costs_no_words(
    open_app: OpenApp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(FakeResponder, "reply", broken)

    async def use() -> None:
        async with open_app().run_test(size=(100, 30)) as pilot:
            await say(pilot, "Precious words")
            await wait_until(pilot, lambda: pilot.app.return_code == 1)

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        await use()
    assert [node.text for node in only_chat(store).path()] == ["Precious words"]


@pytest.mark.slow
async def test_what_a_thread_finds_out_after_the_end_goes_nowhere(open_app: OpenApp) -> None:
    app = open_app()
    assert app.chat.parent is None  # as a screen that was just taken off an app that ends
    await asyncio.get_running_loop().run_in_executor(None, app.chat.behind.crashed, ValueError("too late"))


@pytest.mark.slow
async def test_a_mistake_in_telling_is_not_taken_for_the_end(open_app: OpenApp) -> None:
    class Unmade(message.Message):
        def __init__(self) -> None:
            pass

    app = open_app()
    async with app.run_test() as pilot:
        await pilot.pause()
        with pytest.raises(RuntimeError, match="super"):
            app.chat.behind.archive._post(Unmade())


async def test_the_window_can_change_its_size_while_words_arrive(open_app: OpenApp) -> None:
    async with open_app(SLOW).run_test(size=(160, 40), notifications=True) as pilot:
        await say(pilot, "Count")
        await shows(pilot, "three")
        for size in ((60, 20), (300, 50), (20, 10), (100, 30)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.15)
        await shows(pilot, "ten. One two")
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
        await shows(pilot, "stopped · it repeats itself")


@pytest.mark.slow
async def test_the_command_palette_offers_what_means_something_now(open_app: OpenApp) -> None:
    def offered(pilot: Driver) -> set[str]:
        return {command.title for command in pilot.app.get_system_commands(pilot.app.screen)}

    async with open_app().run_test(size=(100, 30)) as pilot:
        assert not {"Edit a message", "Answer again", "Go on with the reply", "Maximize"} & offered(pilot)
        await ask(pilot, "Capital of France?")
        assert {"Edit a message", "Answer again", "Fork this chat"} <= offered(pilot)
        assert not {"Go on with the reply", "Maximize"} & offered(pilot)
        (again,) = [one for one in pilot.app.get_system_commands(pilot.app.screen) if one.title == "Answer again"]
        again.callback()
        await shows(pilot, "‹2/2›")


@pytest.mark.slow
async def test_keys_of_the_command_palette_opens_our_own_screen(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 30), notifications=True) as pilot:
        keys = [command for command in pilot.app.get_system_commands(pilot.app.screen) if command.title == "Keys"]
        assert [command.help for command in keys] == ["Show all keys"]
        keys[0].callback()
        await wait_until(pilot, lambda: type(pilot.app.screen).__name__ == "HelpScreen")
