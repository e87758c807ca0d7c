"""Replies and loads for asyncio: the same answers, and a task that is cancelled ends what runs for it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from localllm.errors import Cancelled, ContextFull
from localllm.runtime.aio import in_thread
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY

QUESTION = [Message("user", "Name the capital of France.")]
ENDLESS = [Message("user", "Tell me a very long story about the sea and all who live in it.")]
LONG = [Message("user", "word and another " * 280)]


@pytest.mark.slow
async def test_the_pieces_are_those_of_a_plain_reply(model: Model) -> None:
    wanted = list(model.reply(QUESTION, sampling=GREEDY, max_tokens=24))
    reply = model.astream(QUESTION, sampling=GREEDY, max_tokens=24)
    assert [piece async for piece in reply] == wanted
    assert reply.text == "".join(wanted)
    assert reply.stats is not None
    assert reply.stats.stop_reason == "end"


@pytest.mark.slow
async def test_a_conversation_that_is_awaited(model: Model) -> None:
    chat = model.chat(sampling=GREEDY, max_tokens=24)
    assert "Paris" in await chat.aask("Name the capital of France.")
    assert "Berlin" in "".join([piece async for piece in chat.astream("And of Germany?")])
    assert chat.stats is not None
    assert chat.stats.cached_tokens > 0
    again = "".join([piece async for piece in chat.aregenerate()])
    assert [message.role for message in chat.messages] == ["user", "assistant", "user", "assistant"]
    assert chat.messages[-1].content == again


@pytest.mark.slow
async def test_several_at_once(model: Model) -> None:
    chats = [model.chat(sampling=GREEDY, max_tokens=16) for _ in range(3)]
    questions = ["Name the capital of France.", "Name the capital of Germany.", "Name the capital of Italy."]
    answers = await asyncio.gather(*(chat.aask(text) for chat, text in zip(chats, questions, strict=True)))
    for answer, city in zip(answers, ("Paris", "Berlin", "Rome"), strict=True):
        assert city in answer


@pytest.mark.slow
async def test_a_cancelled_task_ends_its_reply_and_keeps_what_was_said(model: Model) -> None:
    chat = model.chat(sampling=GREEDY)
    said: list[str] = []
    begun = asyncio.Event()

    async def listen() -> None:
        async for piece in chat.astream(ENDLESS[0].content):
            said.append(piece)
            begun.set()

    task = asyncio.create_task(listen())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chat.stats is not None
    assert chat.stats.stop_reason == "cancelled"
    assert chat.messages[-1].content.startswith("".join(said))
    assert "Paris" in await model.chat(sampling=GREEDY, max_tokens=24).aask("Name the capital of France.")


async def test_a_task_is_cancelled_while_the_prompt_is_read(model: Model) -> None:
    reply = model.astream(LONG, sampling=GREEDY)

    async def listen() -> None:
        async for _ in reply:
            pass

    task = asyncio.create_task(listen())
    while reply.reply.progress is None:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reply.text == ""
    assert reply.stats is not None
    assert reply.stats.stop_reason == "cancelled"


async def test_leaving_the_loop_ends_the_reply(model: Model) -> None:
    reply = model.astream(ENDLESS, sampling=GREEDY)
    pieces = aiter(reply)
    await anext(pieces)
    await pieces.aclose()  # type: ignore[attr-defined]
    assert reply.stats is not None
    assert reply.stats.stop_reason == "cancelled"


async def test_errors_arrive(model: Model) -> None:
    with pytest.raises(ContextFull, match="the context holds 1,024"):
        await model.chat().aask("word " * 3000)
    assert [piece async for piece in model.acomplete("The capital of France is", sampling=GREEDY, max_tokens=1)] == [
        " Paris"
    ]


async def test_no_thread_stays_behind(model: Model) -> None:
    await model.chat(sampling=GREEDY, max_tokens=4).aask("Hello")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("reply", "work"))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Model, pytest.param(ModelProcess, marks=pytest.mark.slow)])
async def test_a_load_is_given_up_with_its_task(kind: type[Model | ModelProcess], smollm2: Path) -> None:
    begun = threading.Event()
    told: list[float] = []

    def progress(fraction: float) -> None:
        told.append(fraction)
        begun.set()
        time.sleep(0.02)

    task = asyncio.create_task(kind.aload(smollm2, Options(n_ctx=256), progress=progress))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert kind is ModelProcess or max(told) < 1
    with await kind.aload(smollm2, Options(n_ctx=256)) as model:
        assert [piece async for piece in model.acomplete("The capital of France is", sampling=GREEDY, max_tokens=1)]


@pytest.mark.slow
def test_a_load_that_somebody_cancels(smollm2: Path) -> None:
    with pytest.raises(Cancelled, match="was stopped"):
        Model.load(smollm2, Options(n_ctx=256), cancelled=lambda: True)


async def test_work_that_is_cancelled_twice_holds_up_no_other_task() -> None:
    order: list[str] = []
    go_on = threading.Event()

    def work() -> str:
        go_on.wait(timeout=5)
        order.append("done")
        return "made"

    task = asyncio.create_task(in_thread(work, lambda: None, order.append))
    for _ in range(2):
        await asyncio.sleep(0.01)
        task.cancel()
    await asyncio.sleep(0.01)
    order.append("others")
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert order == ["others", "done", "made"]
