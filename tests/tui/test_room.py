"""Which turns could go, and which contexts are worth offering."""

from __future__ import annotations

from dataclasses import replace

from localllm.chat.conversation import Conversation
from localllm.runtime.types import Forecast, Stats
from localllm.tui.overflow import SUMMARY, summary_of
from localllm.tui.room import Crowding, crowding, growth, larger_contexts, summary_tokens, with_context
from localllm.tui.screens.full_context import why
from tests.tui.fake import PLAN


def conversation(*turns: tuple[str, str]) -> Conversation:
    chat = Conversation(system="Be brief.")
    for question, answer in turns:
        chat.extend(chat.add_reply(chat.add_user(question).id).id, answer)
    return chat


def test_turns_are_counted_from_where_messages_end() -> None:
    chat = conversation(("one\nand more", "1"), ("two", "2"))
    last = chat.add_user("three")
    found = crowding(chat, chat.given(), Forecast(100, 0, (10, 25, 40, 50, 80, 96)), n_ctx=96, trained=8192)
    assert [(turn.title, turn.tokens) for turn in found.turns] == [("one and more", 30), ("two", 40), ("three", 20)]
    assert (found.fixed, found.spare) == (10, 2)
    assert [found.left(count) for count in range(3)] == [100, 70, 30]
    assert found.turns[2].begin == last.id
    assert found.turns[0].before is None
    assert found.turns[1].before == chat.path()[1].id


def test_so_many_turns_are_advised_that_half_of_the_context_is_free() -> None:
    chat = conversation(*[(f"question {number}", "answer") for number in range(9)])
    chat.add_user("last")
    given = chat.given()
    found = crowding(
        chat, given, Forecast(191, 0, tuple(10 * number + 10 for number in range(len(given)))), n_ctx=190, trained=8192
    )
    assert found.left(found.advised()) <= 95 < found.left(found.advised() - 1)
    assert not replace(found, n_ctx=30).can_summarise(1)
    assert (summary_tokens(512), summary_tokens(8192)) == (64, 256)
    assert replace(found, n_ctx=1000).can_summarise(1)


def test_a_single_turn_has_none_to_spare() -> None:
    chat = Conversation()
    chat.add_user("long")
    found = crowding(chat, chat.given(), Forecast(100, 0, (99,)), n_ctx=50, trained=8192)
    assert found.spare == 0
    assert found.waits
    assert found.is_hopeless


def test_a_last_turn_that_does_not_fit_alone_leaves_no_hope() -> None:
    chat = conversation(("one", "1"), ("two", "2"))
    chat.add_user("three")
    forecast = Forecast(100, 0, (10, 25, 40, 50, 60, 96))  # the last turn and the system prompt take 50
    found = crowding(chat, chat.given(), forecast, n_ctx=60, trained=8192)
    assert not found.is_hopeless
    assert not found.fits_without(found.turns[1:2])
    assert crowding(chat, chat.given(), forecast, n_ctx=50, trained=8192).is_hopeless


def test_the_reason_says_nothing_of_a_message_that_may_not_wait() -> None:
    assert (
        why(Crowding(512, 513, 0, (), 8192, waits=True))
        == "The model has 513 tokens to read, and the context holds 512."
    )
    assert "500 tokens to read, of 512 that the context holds, so the" in why(
        Crowding(512, 500, 0, (), 8192, waits=True)
    )


def test_the_full_context_is_to_blame_only_where_it_left_no_room() -> None:
    chat = conversation(("one", "1"), ("two", "2"))
    forecast = Forecast(100, 0, (10, 25, 40, 50, 100))

    def stuck(n_ctx: int, forecast: Forecast = forecast) -> bool:
        return crowding(chat, chat.given(), forecast, n_ctx=n_ctx, trained=8192).is_stuck

    assert not stuck(90), "the last reply is whole"
    reply = chat.path()[-1]
    for reason, expected in (("cancelled", False), ("length", False), ("context", True)):
        chat.finish(reply.id, Stats(90, 0, 10, 0.1, 1.0, 1.0, reason))  # type: ignore[arg-type]
        assert stuck(100) is expected
    chat.finish(reply.id, None)
    assert not stuck(100), "a crash cut it off"
    chat.add_user("three")
    waiting = Forecast(100, 0, (10, 25, 40, 50, 60, 96))
    assert not stuck(200, waiting), "the person stopped it before the first word"
    assert stuck(100, waiting)
    assert stuck(102, waiting), "no room for a word"


def test_larger_contexts_double_up_to_what_the_model_was_trained_with() -> None:
    assert larger_contexts(8300, 8192, 131072) == [16384, 32768, 65536]
    assert larger_contexts(8300, 8192, 20000) == [16384, 20000]
    assert larger_contexts(8300, 8192, 8192) == []
    assert larger_contexts(40000, 8192, 131072) == [65536, 131072]


def test_a_larger_context_costs_what_its_plan_takes_more() -> None:
    (cpu,) = PLAN.devices
    larger = replace(PLAN, options=with_context(PLAN, 16384), devices=(replace(cpu, kv=2 * cpu.kv),))
    assert growth(PLAN, larger).more == cpu.kv
    assert growth(PLAN, larger).fits
    assert not growth(PLAN, replace(larger, devices=(replace(cpu, kv=64 << 30),))).fits
    assert with_context(PLAN, 16384).threads == PLAN.options.threads


def test_a_summary_is_asked_for_where_the_conversation_is_cached() -> None:
    chat = conversation(("one", "1"), ("two", "2"))
    given = chat.given()
    third = chat.path()[2]
    asked = summary_of(given, third.id)
    assert asked[:-1] == [one.message for one in given[:3]]
    assert (asked[-1].role, asked[-1].content) == ("user", SUMMARY)
    answer = chat.path()[1]
    assert summary_of(given, answer.id)[-1].content == f"one\n\n{SUMMARY}"
