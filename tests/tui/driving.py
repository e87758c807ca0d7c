"""How tests drive the app and look at it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import pytest
from textual import events
from textual.pilot import Pilot

from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.runtime.options import Options
from localllm.tui.app import ChatApp
from localllm.tui.background import Queue
from localllm.tui.widgets.prompt import Prompt
from tests.tui.fake import Garage, Script

Driver = Pilot[None]


class OpenApp(Protocol):
    def __call__(
        self,
        script: Script | None = None,
        *,
        garage: Garage | None = None,
        options: Options | None = None,
        conversation: Conversation | None = None,
        titles: bool = False,
        max_tokens: int = 0,
        panes: Mapping[str, bool] | None = None,
    ) -> ChatApp: ...


def only_chat(store: Store) -> Conversation:
    """The chat on disk, of which there must be one."""
    (entry,) = store.chats()
    return store.load(entry.id)


class SlowDisk:
    """Jobs wait in a queue until it is let go."""

    def __init__(self, jobs: Queue) -> None:
        self._let_go = threading.Event()
        jobs.put(self._wait)

    def _wait(self) -> None:
        self._let_go.wait(10)

    def let_go(self) -> None:
        self._let_go.set()


async def wait_until(pilot: Driver, holds: Callable[[], object], what: str = "") -> None:
    """Let the app work until `holds()`; fail after half a minute, saying what is on the screen."""
    deadline = time.monotonic() + 30
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what or holds}:\n{screen_text(pilot)}")
        await pilot.pause()
        await asyncio.sleep(0.01)
    await pilot.pause()


def screen_text(pilot: Driver) -> str:
    """What the terminal shows, as text."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


async def shows(pilot: Driver, text: str) -> None:
    """Wait until the terminal shows `text`."""
    await wait_until(pilot, lambda: text in screen_text(pilot), repr(text))


async def say(pilot: Driver, text: str) -> None:
    """Type a message and send it."""
    pilot.app.query_one(Prompt).insert(text)
    await pilot.press("enter")


def type_at_once(pilot: Driver, *keys: str) -> None:
    """Keys as a terminal hands them on where many came in one read."""
    for key in keys:
        pilot.app.post_message(events.Key(key, key if len(key) == 1 else None))


def idle(pilot: Driver) -> bool:
    """Whether no reply is being made."""
    app = pilot.app
    assert isinstance(app, ChatApp)
    return not app.chat.busy


async def ask(pilot: Driver, text: str) -> None:
    """Send a message and wait for the end of the reply."""
    app = pilot.app
    assert isinstance(app, ChatApp)
    before = len(app.chat.conversation.nodes)
    await say(pilot, text)
    await wait_until(pilot, lambda: len(app.chat.conversation.nodes) > before and idle(pilot), "the reply to end")
