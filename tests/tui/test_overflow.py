"""A conversation that outgrows its context: each way out, on the screen, on disk and in what the model is given."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from localllm.chat.conversation import BEFORE
from localllm.chat.store import Store
from localllm.cli.chat import open_model
from localllm.errors import DoesNotFit
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.tui.app import ChatApp
from localllm.tui.cut_entry import CutEntry
from localllm.tui.loader import Wanted
from localllm.tui.screens.full_context import FullContext
from localllm.tui.widgets.transcript import Transcript
from tests.tui.driving import OpenApp, ask, idle, say, screen_text, shows, wait_until
from tests.tui.fake import Garage, Script

SMALL = Options(n_ctx=800)
LONG = "Tell me more of it. " * 60
PARIS = "The capital of France is Paris."

pytestmark = pytest.mark.slow


async def fill(pilot: Pilot[None], app: ChatApp) -> None:
    """Two turns that fit and a message that does not, and wait for the choices."""
    await ask(pilot, f"First. {LONG}")
    await ask(pilot, f"Second. {LONG}")
    await say(pilot, f"Third. {LONG}")
    await shows(pilot, "F6 makes room")
    await pilot.press("f6")
    await shows(pilot, "The context is full")
    await shows(pilot, "Grow the context to")
    assert isinstance(app.screen, FullContext)


def lines(app: ChatApp) -> list[str]:
    """What the lines say above which nothing is sent."""
    entries = app.query_one(Transcript).entries
    return [entry.copied_text() for entry in entries if isinstance(entry, CutEntry)]


async def choose(pilot: Pilot[None], beginning: str) -> None:
    choices = pilot.app.screen.query_one(OptionList)
    at = next(index for index, option in enumerate(choices.options) if str(option.prompt).startswith(beginning))
    choices.highlighted = at
    await pilot.pause()
    await pilot.press("enter")


async def test_turns_are_left_out_below_a_line_and_nothing_is_lost(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=SMALL)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await fill(pilot, app)
        assert "holds 800" in screen_text(pilot)
        assert "First. Tell me more" in screen_text(pilot)
        await choose(pilot, "Leave out the oldest 2 turns")
        await wait_until(pilot, lambda: lines(app) == ["the 4 messages above are not sent · F6 takes this back"])
        await wait_until(pilot, lambda: idle(pilot))
        assert [message.content for message in garage.models[0].asked[-1]] == [f"Third. {LONG}"]
        (entry,) = store.chats()
        kept = store.load(entry.id)
        assert len(kept.path()) == 6
        assert kept.first_sent() == kept.path()[4]
        await pilot.press("f6")
        await shows(pilot, "Send all again")
        await shows(pilot, "does not fit: 9")
        await choose(pilot, "Send all again")
        await shows(pilot, "All of this chat is sent again")
        await wait_until(pilot, lambda: not lines(app))
        await wait_until(pilot, lambda: store.load(entry.id).first_sent() is None)
        assert len(garage.models[0].asked) == 4, "sending again asks nothing by itself"


async def test_of_several_lines_the_last_is_taken_back_first(open_app: OpenApp) -> None:
    app = open_app(options=Options(n_ctx=8000))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        for name in ("First", "Second", "Third"):
            await ask(pilot, f"{name}. {LONG}")
        first, second, third = (node for node in app.chat.conversation.path() if node.role == "user")
        app.chat.conversation.cut(second.id)
        app.chat.conversation.cut(third.id)
        app.chat.show_anew()
        await pilot.press("f6")
        await shows(pilot, "Send 2 messages again")
        assert "it fits; the 2 before stay left out" in screen_text(pilot)
        await choose(pilot, "Send 2 messages again")
        await wait_until(pilot, lambda: lines(app) == ["the 2 messages above are not sent · F6 takes this back"])
        await say(pilot, "/all")
        await wait_until(pilot, lambda: not lines(app))
        await shows(pilot, "All of this chat is sent again")
        assert app.chat.conversation.given()[0].nodes == (first.id,)
        await say(pilot, "/all")
        await shows(pilot, "Nothing of this chat is left out")


async def test_room_made_by_hand_goes_on_with_no_reply_that_a_person_stopped(open_app: OpenApp) -> None:
    garage = Garage(Script(stop_reason="cancelled"))
    app = open_app(garage=garage, options=Options(n_ctx=8000))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, f"First. {LONG}")
        await ask(pilot, f"Second. {LONG}")
        stopped = app.chat.conversation.path()[-1]
        for choice in ("Summarise the oldest turn", "Send all again", "Leave out the oldest turn"):
            await pilot.press("f6")
            await shows(pilot, choice)
            await choose(pilot, choice)
            if "Summarise" in choice:
                await shows(pilot, "Enter sends this")
                await pilot.press("enter")
            await wait_until(pilot, lambda: bool(lines(app)) is ("again" not in choice))  # noqa: B023
        await pilot.pause()
        assert app.chat.conversation.path()[-1] == stopped
        assert len(garage.models[0].asked) == 3  # the summary is the third


async def test_room_made_for_a_reply_that_the_full_context_cut_goes_on_with_it(open_app: OpenApp) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=Options(n_ctx=8000))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, f"First. {LONG}")
        garage.script.stop_reason = "context"
        await ask(pilot, f"Second. {LONG}")
        garage.script.stop_reason, garage.script.reply = "end", " And no other."
        await pilot.press("f6")
        await shows(pilot, "Leave out the oldest turn")
        await choose(pilot, "Leave out the oldest turn")
        await wait_until(pilot, lambda: idle(pilot) and app.chat.conversation.path()[-1].text.endswith("no other."))
        assert garage.models[0].asked[-1][-1].role == "assistant"


async def test_what_is_left_out_is_sent_again_and_the_line_below_counts_what_is_sent(
    open_app: OpenApp, store: Store
) -> None:
    app = open_app(options=Options(n_ctx=4000))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, f"First. {LONG}")
        await ask(pilot, f"Second. {LONG}")
        await shows(pilot, "context 635 / 4,000")
        await pilot.press("f6")
        await shows(pilot, "Grow the context to")
        assert "Send all again" not in screen_text(pilot)
        await choose(pilot, "Leave out the oldest turn")
        await wait_until(pilot, lambda: lines(app) == ["the 2 messages above are not sent · F6 takes this back"])
        await shows(pilot, "context 318 / 4,000")
        await pilot.press("f6")
        await shows(pilot, "635 of 4,000 tokens to send then: it fits")
        await choose(pilot, "Send all again")
        await wait_until(pilot, lambda: not lines(app))
        await shows(pilot, "context 635 / 4,000")
        await wait_until(pilot, lambda: store.load(app.chat.conversation.id).first_sent() is None)


async def test_fewer_turns_can_be_left_out(open_app: OpenApp) -> None:
    app = open_app(options=SMALL)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await fill(pilot, app)
        await pilot.press("left")
        await shows(pilot, "Leave out the oldest turn ")
        await pilot.press("left", "left", "right", "right", "right")
        await shows(pilot, "Leave out the oldest 2 turns")
        await pilot.press("escape")
        await shows(pilot, "F6 makes room")
        await pilot.press("f6")
        await shows(pilot, "The context is full")


async def test_a_summary_is_shown_used_and_marked(open_app: OpenApp, store: Store) -> None:
    script, garage = Script(), Garage()
    garage.script = script
    app = open_app(garage=garage, options=Options(n_ctx=1200))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        for name in ("First", "Second", "Third"):
            await ask(pilot, f"{name}. {LONG}")
        await say(pilot, f"Fourth. {LONG}")
        await shows(pilot, "F6 makes room")
        await pilot.press("f6")
        await shows(pilot, "Grow the context to")
        await pilot.press("left", "left", "left")
        script.reply = "They spoke of France."
        await choose(pilot, "Summarise the oldest turn")
        await shows(pilot, "They spoke of France.")
        await shows(pilot, "Enter sends this")
        script.reply = PARIS
        await pilot.press("enter")
        expected = [
            "the 2 messages above are not sent, but this summary of them · F6 takes this back\nThey spoke of France."
        ]
        await wait_until(pilot, lambda: lines(app) == expected)
        await wait_until(pilot, lambda: idle(pilot))
        asked = garage.models[0].asked[-1]
        assert asked[0].content.startswith(f"{BEFORE}\n\nThey spoke of France.\n\nSecond. Tell me")
    (entry,) = store.chats()
    assert list(store.load(entry.id).cuts.values()) == ["They spoke of France."]


async def test_a_summary_that_is_not_wanted_changes_nothing(open_app: OpenApp) -> None:
    garage = Garage(Script(reply="word " * 400))
    app = open_app(garage=garage, options=Options(n_ctx=4000))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        for number in range(3):
            await ask(pilot, f"Question {number} {LONG}")
        garage.script.piece_s = 0.05
        await pilot.press("f6")
        await shows(pilot, "Grow the context to")
        await choose(pilot, "Summarise")
        await shows(pilot, "word word")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "A summary" not in screen_text(pilot))
        assert app.chat.conversation.first_sent() is None
        assert len(app.chat.conversation.path()) == 6


async def test_a_larger_context_says_what_it_costs_and_answers(open_app: OpenApp) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=SMALL)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await fill(pilot, app)
        await shows(pilot, "Grow the context to 1,600 tokens")
        assert "19.5 MiB more · fits · the model loads again" in screen_text(pilot)
        await choose(pilot, "Grow the context to 1,600")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        await wait_until(pilot, lambda: idle(pilot) and len(app.chat.conversation.path()) == 6)
        assert garage.models[0].closed
        assert garage.models[1].wanted.options.n_ctx == 1600
        assert len(garage.models[1].asked[-1]) == 5


async def test_a_context_that_does_not_load_gives_way_to_the_one_before(open_app: OpenApp) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=SMALL)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await fill(pilot, app)
        garage.script.load_error = DoesNotFit("It needs 9.0 GiB.")
        await choose(pilot, "Grow the context to 1,600")
        await shows(pilot, "It needs 9.0 GiB.")
        garage.script.load_error = None
        await pilot.press("f5")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[1].wanted.options == SMALL


async def test_a_branch_asks_earlier_and_keeps_the_rest(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=SMALL)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await fill(pilot, app)
        await pilot.press("left")
        await choose(pilot, "Branch off before the last turn")
        await wait_until(pilot, lambda: idle(pilot) and len(app.chat.conversation.path()) == 4)
        assert [message.content[:6] for message in garage.models[0].asked[-1]] == ["First.", "The ca", "Third."]
    (entry,) = store.chats()
    chat = store.load(entry.id)
    assert sorted(node.text[:7] for node in chat.nodes.values() if node.role == "user") == [
        "First. ",
        "Second.",
        "Third. ",
        "Third. ",
    ]


async def test_room_is_made_before_it_is_needed_and_nothing_is_answered_again(open_app: OpenApp) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=Options(n_ctx=8000))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, f"First. {LONG}")
        await ask(pilot, f"Second. {LONG}")
        await pilot.press("f6")
        await shows(pilot, "there is room for an answer")
        assert "Room in the context" in screen_text(pilot)
        assert "The context is full" not in screen_text(pilot)
        await choose(pilot, "Leave out the oldest turn")
        await wait_until(pilot, lambda: lines(app))
        await pilot.pause()
        assert not app.chat.busy
        assert len(garage.models[0].asked) == 2
        assert len(app.chat.conversation.nodes) == 4
        await ask(pilot, "Third.")
        assert garage.models[0].asked[-1][0].content.startswith("Second.")


async def test_a_reply_that_fills_the_context_offers_to_go_on(open_app: OpenApp) -> None:
    script = Script(stop_reason="context")
    app = open_app(script)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        await shows(pilot, "cut because the context is full · F6 makes room")


async def test_what_is_typed_when_the_context_is_full_stays_and_chooses_nothing(open_app: OpenApp) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=SMALL)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, f"First. {LONG}")
        await ask(pilot, f"Second. {LONG}")
        await say(pilot, f"Third. {LONG}")
        await pilot.press(*"and")
        await shows(pilot, "F6 makes room")
        await pilot.press(*"more")
        assert app.screen is app.chat
        assert app.chat.talk.prompt.text == "andmore"
        assert not lines(app)


async def test_a_message_that_fits_no_context_can_only_be_taken_back(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=Options(n_ctx=8000))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, "First.")
        long = LONG * 30
        app.chat.talk.prompt.insert(long)  # the 8,192 tokens that the model was trained for are too few, too
        await pilot.press("enter")
        await shows(pilot, "F6 makes room")
        await pilot.press("f6")
        await shows(pilot, "the model was trained for 8,192 tokens")
        shown = screen_text(pilot)
        assert "without the earlier turns" in shown
        assert not any(offer in shown for offer in ("Leave out", "Summarise", "Branch off"))
        await choose(pilot, "Take the message back")
        await wait_until(pilot, lambda: app.chat.talk.prompt.text.strip() == long.strip())
        assert [node.text[:6] for node in app.chat.conversation.path()] == ["First.", "The ca"]


async def test_a_real_talk_outgrows_its_context_and_goes_on_with_a_summary(smollm2: Path, store: Store) -> None:
    wanted = Wanted(smollm2, Options(n_ctx=1024))
    app = ChatApp(open_model, wanted, store, sampling=Sampling(temperature=0), max_tokens=64)
    text = "The lighthouse keeper Ada lives on the island of Fjell and has a cat called Mika. " * 14
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, f"{text}\n\nWho has a cat? Answer with one name.")
        await ask(pilot, "Where does she live? Answer with one word.")
        await ask(pilot, f"{text}\n\nWhat is the cat's name? Answer with one word.")
        await say(pilot, f"{text}\n\nHow many cats are there? Answer with one number.")
        await shows(pilot, "F6 makes room")
        await pilot.press("f6")
        await shows(pilot, "The context is full")
        await shows(pilot, "MiB more · fits")
        await pilot.press("left", "left", "left")
        await choose(pilot, "Summarise the oldest turn")
        await shows(pilot, "Enter sends this")
        await pilot.press("enter")
        await wait_until(pilot, lambda: lines(app))
        await shows(pilot, "writing")
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
    app.close()
    (entry,) = store.chats()
    chat = store.load(entry.id)
    assert chat.first_sent() is not None
    assert len([node for node in chat.nodes.values() if node.role == "user"]) == 4
