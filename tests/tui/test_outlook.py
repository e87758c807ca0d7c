"""What the app tells before a reply: which messages are cached, and what the next one will cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from localllm.chat.conversation import Conversation, Given
from localllm.chat.store import Store
from localllm.runtime.options import Options
from localllm.runtime.types import Forecast, Message, Stats
from localllm.tui import wording
from localllm.tui.messages import ChatOpened
from localllm.tui.outlook import Question, cached, tokens_of
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.transcript import RIBBON
from tests.tui.driving import OpenApp, ask, say, screen_text, wait_until
from tests.tui.fake import Garage

STATS = Stats(541, 412, 128, 0.123, 800.0, 34.06, "end")


def test_a_draft_is_one_more_message_or_the_end_of_one_that_waits() -> None:
    answered = (Given(Message("user", "a"), ("1",)), Given(Message("assistant", "b"), ("2",)))
    assert Question(answered, "c").messages[2:] == [Message("user", "c")]
    assert Question(answered[:1], "c").messages == [Message("user", "a\n\nc")]
    assert Question(answered).messages == [one.message for one in answered]
    assert Question((), "c").messages == [Message("user", "c")]


def test_messages_are_cached_up_to_where_the_cache_reaches() -> None:
    given = [Given(Message("system", "s")), *(Given(Message("user", "x"), (name,)) for name in "abc")]
    forecast = Forecast(40, 18, (10, 12, 20, 40))
    assert cached(given, forecast) == {"a", "b"}
    assert cached(given, replace(forecast, cached_tokens=17)) == {"a"}
    assert cached(given, Forecast(40, 18, (10, 0, 20, 40))) == {"b"}


def test_a_chat_takes_the_tokens_up_to_the_end_of_its_last_message() -> None:
    given = [Given(Message("system", "s")), Given(Message("assistant", "x"), ("a",))]
    assert tokens_of(given, Forecast(40, 18, (10, 12, 20))) == 12
    assert tokens_of(given, Forecast(40, 18, (10, 0, 20))) == 10
    asked = [*given, Given(Message("user", "y"), ("b",))]
    assert tokens_of(asked, Forecast(40, 18, (10, 12, 37))) == 40  # as many as a refusal tells
    assert tokens_of(given[:1], Forecast(40, 18, (10, 20))) == 0


@pytest.mark.slow
async def test_the_context_that_is_told_is_that_of_the_open_chat(open_app: OpenApp, store: Store) -> None:
    imported = Conversation()
    store.add(imported, imported.add_user("A question of four times eighteen letters, as fits the fake model."))
    app = open_app()
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        held = app.chat.replies.context_used
        await wait_until(pilot, lambda: f"context {held} / 8,192" in screen_text(pilot))
        assert held == 15
        await pilot.press("ctrl+n")
        await wait_until(pilot, lambda: "context 0 / 8,192" in screen_text(pilot))
        app.chat.behind.sampler.now()
        await say(pilot, "/stats")
        await wait_until(pilot, lambda: "context 0 of 8,192 tokens" in screen_text(pilot))
        assert "context 15" not in screen_text(pilot)
        app.chat.post_message(ChatOpened(store.load(imported.id)))
        await wait_until(pilot, lambda: "context 20 / 8,192" in screen_text(pilot))


def test_the_cost_is_told_in_tokens_and_in_time_where_a_rate_was_measured() -> None:
    forecast = Forecast(4126, 3912, ())
    assert wording.outlook(forecast, 8192, 107.0) == "reuse 3,912 · evaluate 214 · about 2.0 s"
    assert wording.outlook(forecast, 8192, 2200.0) == "reuse 3,912 · evaluate 214 · at once"
    assert wording.outlook(forecast, 8192, 0.0) == "reuse 3,912 · evaluate 214"
    assert wording.outlook(forecast, 4096, 107.0) == "does not fit: 4,126 of 4,096 tokens · F6 makes room"


def test_the_rate_is_that_of_the_last_prompt_that_was_long_enough() -> None:
    chat = Conversation()
    for stats in (STATS, replace(STATS, cached_tokens=539, prefill_tps=5.0)):
        chat.finish(chat.add_reply(chat.add_user("a").id).id, stats)
    assert wording.prefill_rate(chat) == 800.0
    assert wording.prefill_rate(Conversation()) == 0.0


@pytest.mark.slow
async def test_the_app_marks_what_is_cached_and_tells_the_cost_while_one_types(open_app: OpenApp) -> None:
    garage = Garage()
    app = open_app(garage=garage, options=Options(n_ctx=600))
    async with app.run_test(size=(80, 30), notifications=True) as pilot:
        await ask(pilot, "Tell me the capital of France, and nothing but its name, please.")
        await wait_until(pilot, lambda: RIBBON in screen_text(pilot), "the ribbon")
        app.query_one(Prompt).insert("And of Germany, please?")
        await wait_until(pilot, lambda: "reuse " in screen_text(pilot), "the cost")
        assert "· evaluate " in screen_text(pilot)
        assert "· at once" in screen_text(pilot) or "· about 0." in screen_text(pilot)
        app.query_one(Prompt).insert("word " * 600)
        await wait_until(pilot, lambda: "does not fit" in screen_text(pilot), "the warning")
        app.query_one(Prompt).clear()
        await wait_until(pilot, lambda: "does not fit" not in screen_text(pilot))
        garage.models[0].used = 0
        app.query_one(Prompt).insert("x")
        await wait_until(pilot, lambda: RIBBON not in screen_text(pilot), "the ribbon to go")
