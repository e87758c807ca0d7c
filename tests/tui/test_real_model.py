"""The app over the real default model in its own process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from localllm.chat.store import Store
from localllm.cli.chat import open_model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.sampling import Sampling
from localllm.tui.app import ChatApp
from localllm.tui.loader import Wanted
from localllm.tui.widgets.status_line import StatusLine
from tests.tui.driving import ask, idle, say, screen_text, wait_until

pytestmark = pytest.mark.slow


async def test_a_real_talk_that_is_stopped_continued_and_survives_the_engine(smollm2: Path, store: Store) -> None:
    app = ChatApp(open_model, Wanted(smollm2, Options(n_ctx=1024)), store, sampling=Sampling(temperature=0))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await ask(pilot, "Name the capital of France.")
        assert "Paris" in screen_text(pilot)
        await ask(pilot, "Are you sure? Answer yes or no.")
        stats = app.query_one(StatusLine).status.stats
        assert stats is not None
        assert stats.cached_tokens > 0
        assert stats.prompt_tokens - stats.cached_tokens < 40

        await say(pilot, "Write a very long story about a lighthouse keeper, in ten chapters.")
        await wait_until(pilot, lambda: "writing" in screen_text(pilot), "the first words")
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot), "the reply to stop")
        partial = app.chat.conversation.path()[-1]
        assert partial.state == "partial"

        engine = app.chat.behind.loader.model
        assert isinstance(engine, ModelProcess)
        app.chat.behind.sampler.close()  # it is told without anybody asking the engine
        os.kill(engine.pid, signal.SIGKILL)
        await wait_until(pilot, lambda: "F5 loads the model again" in screen_text(pilot), "the death to be noticed")
        assert "The conversation is safe, and goes on once the model is loaded" in screen_text(pilot)
        assert "Load the model again" not in screen_text(pilot)
        await pilot.press("f5")
        await wait_until(pilot, lambda: app.chat.behind.loader.state == "ready", "the engine to be back")
        await pilot.press("ctrl+g")
        await wait_until(pilot, lambda: len(app.chat.conversation.path()[-1].text) > len(partial.text), "more words")
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot), "the reply to stop")
    app.close()
    (entry,) = store.chats()
    last = store.load(entry.id).path()[-1]
    assert last.id == partial.id
    assert last.text.startswith(partial.text)
    assert len(last.text) > len(partial.text)
