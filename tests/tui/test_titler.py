"""The model names a chat after its first reply, if that is wanted, and never in the way of the person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from localllm.chat.store import Store
from localllm.chat.titles import QUESTION
from localllm.runtime.responder import Reply
from localllm.runtime.types import Message
from tests.tui.driving import OpenApp, ask, wait_until
from tests.tui.fake import FakeResponder, Garage, Script

pytestmark = pytest.mark.slow


def titles(store: Store) -> list[str]:
    return [chat.title for chat in store.chats()]


async def test_the_first_reply_is_followed_by_a_title(open_app: OpenApp, store: Store) -> None:
    garage = Garage(Script(reply="Wombats, mostly."))
    async with open_app(garage=garage, titles=True).run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "What digs in my garden?")
        await wait_until(pilot, lambda: titles(store) == ["Wombats, mostly"])
        await ask(pilot, "Sure?")
    asked = garage.models[0].asked
    assert [messages[-1].content for messages in asked] == ["What digs in my garden?", QUESTION, "Sure?"]
    assert asked[1][:2] == asked[2][:2], "the title is no part of the conversation"


async def test_a_title_is_not_asked_for_unless_it_is_wanted(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "What digs in my garden?")
        await ask(pilot, "Sure?")
    assert len(garage.models[0].asked) == 2
    assert titles(store) == ["What digs in my garden?"]


async def test_the_next_message_gives_the_title_up(
    open_app: OpenApp, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = FakeResponder.reply

    def slow_title(self: FakeResponder, messages: Sequence[Message], **options: Any) -> Reply:
        self.script.prefill_s = 30 if messages[-1].content == QUESTION else 0
        return make(self, messages, **options)

    monkeypatch.setattr(FakeResponder, "reply", slow_title)
    garage = Garage(Script(reply="Wombats."))
    async with open_app(garage=garage, titles=True).run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "What digs in my garden?")
        await wait_until(pilot, lambda: len(garage.models[0].asked) == 2)
        await ask(pilot, "Sure?")
    assert titles(store) == ["What digs in my garden?"]
