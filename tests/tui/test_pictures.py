"""Every screen as a person sees it, at 80 and at 160 columns, compared with a picture that is kept."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.chat.conversation import Conversation
from localllm.chat.settings import MODEL
from localllm.chat.store import Store
from localllm.errors import DoesNotFit
from localllm.runtime import apart
from localllm.runtime.options import Options
from localllm.runtime.types import Stats
from localllm.tui.app import ChatApp
from localllm.tui.messages import ChatOpened
from localllm.tui.widgets.suggestions import Suggestions
from tests.tui import pictures
from tests.tui.driving import Driver, OpenApp, ask, idle, say, screen_text, wait_until
from tests.tui.fake import PLAN, Script

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("width", [80, 160])]

ANSWER = """<think>
The person wants an overview.
</think>

## Circles

The **area** of a circle is *π* times `radius` squared, see [a page](https://example.org/circle).

1. Measure the radius.
2. Square it.
   - by hand
   - or by machine

```python
def area(radius: float) -> float:
    return 3.14159 * radius**2
```

| Quantity | Value |
|----------|------:|
| radius   |   2.0 |
| area     | 12.57 |

> Nothing is square about a circle.

東京 and 🗼 are wide."""


@contextlib.asynccontextmanager
async def shown(open_app: OpenApp, width: int, script: Script | None = None) -> AsyncIterator[Driver]:
    """The app in a terminal of that width, once the model and the memory panel are there."""
    async with open_app(script).run_test(size=(width, 40)) as pilot:
        await shows(pilot, "fake-1b" if script is None or script.load_error is None else "no model")
        await settled(pilot)
        yield pilot


async def shows(pilot: Driver, text: str) -> None:
    await wait_until(pilot, lambda: text in screen_text(pilot), repr(text))


async def settled(pilot: Driver) -> None:
    """Until the screen stays as it is for a while: panels follow the model by some tenths of a second."""
    before, same = "", 0
    while same < 4:
        await pilot.pause(0.1)
        now = screen_text(pilot)
        same = same + 1 if now == before else 0
        before = now


async def sampled(pilot: Driver, app: ChatApp) -> None:
    """Until the memory is shown as it is now."""
    app.chat.behind.sampler.now()
    await wait_until(
        pilot,
        lambda: (
            app.chat.watching.last and app.chat.model and app.chat.replies.context_used == app.chat.model.context_used()
        ),
    )


async def picture(pilot: Driver, name: str) -> None:
    await settled(pilot)
    pictures.check(pilot, name)


def past_chat(store: Store, question: str, answer: str) -> Conversation:
    chat = Conversation()
    store.add(chat, chat.add_user(question))
    reply = chat.add_reply(chat.path()[-1].id)
    store.add(chat, chat.extend(reply.id, answer))
    store.update(chat.finish(reply.id, Stats(10, 4, 3, 0.1, 100.0, 30.0, "end"), model="m"))
    return chat


async def test_empty(open_app: OpenApp, width: int) -> None:
    async with shown(open_app, width) as pilot:
        await picture(pilot, "empty")


async def test_markdown(open_app: OpenApp, width: int) -> None:
    async with shown(open_app, width, Script(reply=ANSWER)) as pilot:
        await ask(pilot, "Tell me about circles")
        await picture(pilot, "markdown")
        await pilot.press("ctrl+home", "ctrl+t")
        await picture(pilot, "thought")


async def test_branches_and_a_stopped_reply(open_app: OpenApp, width: int) -> None:
    script = Script()
    async with shown(open_app, width, script) as pilot:
        await ask(pilot, "Capital of France?")
        script.reply, script.stop_reason = "It is", "length"
        await pilot.press("ctrl+r")
        await wait_until(pilot, lambda: "‹2/2›" in screen_text(pilot) and idle(pilot))
        await picture(pilot, "stopped")


async def test_commands_and_attachments(
    open_app: OpenApp, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("The code word is basalt.\n" * 10)
    async with shown(open_app, width) as pilot:
        await pilot.press("/")
        await wait_until(pilot, lambda: pilot.app.query_one(Suggestions).display)
        await picture(pilot, "commands")
        await pilot.press("backspace")
        await say(pilot, "/attach notes.md")
        await shows(pilot, "63 tokens")
        await pilot.press(*"What does @n")
        await wait_until(pilot, lambda: pilot.app.query_one(Suggestions).display)
        await picture(pilot, "attachments")


async def test_an_unknown_command_and_help(open_app: OpenApp, width: int) -> None:
    async with shown(open_app, width) as pilot:
        await say(pilot, "/halp")
        await shows(pilot, "There is no command")
        await picture(pilot, "unknown-command")
        await pilot.press("f1")
        await picture(pilot, "keys")


async def test_finding(open_app: OpenApp, width: int) -> None:
    async with shown(open_app, width, Script(reply=ANSWER)) as pilot:
        await ask(pilot, "Tell me about circles")
        await pilot.press("ctrl+f", *"circle")
        await shows(pilot, " / ")
        await picture(pilot, "finding")


async def test_the_list_of_chats(open_app: OpenApp, store: Store, width: int) -> None:
    past_chat(store, "Name three rivers in Europe", "Rhine, Danube, Loire.")
    past_chat(store, "What is a prime number?", "One that nothing divides.")
    async with shown(open_app, width) as pilot:
        await pilot.press(*(["f3"] if width < 132 else ["f3", "f3"]))
        await shows(pilot, "prime number")
        await picture(pilot, "chats")
        await pilot.press("r")
        await shows(pilot, "Enter renames")
        await picture(pilot, "rename")


async def test_a_reply_in_another_chat(open_app: OpenApp, width: int) -> None:
    async with shown(open_app, width, Script(prefill_s=60)) as pilot:
        await say(pilot, "Count slowly, and tell me what each number means")
        await shows(pilot, "reading the prompt")
        await pilot.press("ctrl+n")
        await shows(pilot, "answering in")
        await picture(pilot, "elsewhere")


async def test_a_full_context_and_a_summary(open_app: OpenApp, width: int) -> None:
    script = Script()
    app = open_app(script, options=Options(n_ctx=1200))
    async with app.run_test(size=(width, 40)) as pilot:
        for name in ("First", "Second", "Third"):
            await ask(pilot, f"{name}. {'Tell me more of it. ' * 60}")
        await say(pilot, f"Fourth. {'Tell me more of it. ' * 60}")
        await shows(pilot, "F6 makes room")
        await pilot.press("f6")
        await shows(pilot, "Grow the context to")
        await pilot.press("left", "left", "left")
        await sampled(pilot, app)
        await picture(pilot, "full-context")
        script.reply = "They spoke of the capital of France, which is Paris, and of more of it. " * 4
        await pilot.press("down", "enter")
        await shows(pilot, "Enter sends this")
        await sampled(pilot, app)
        await picture(pilot, "summary")


async def test_a_chat_that_used_another_model(
    open_app: OpenApp, store: Store, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "gemma-3-270m.gguf"
    other.write_bytes(b"GGUF")
    monkeypatch.setattr(apart, "plan_apart", lambda *_: replace(PLAN, options=replace(PLAN.options, n_ctx=4096)))
    chat = past_chat(store, "Name three rivers in Europe", "Rhine, Danube, Loire.")
    store.set_settings(chat.id, {MODEL: str(other)})
    app = open_app(options=Options(n_ctx=2048, kv_disk=1 << 30))
    async with app.run_test(size=(width, 40)) as pilot:
        await shows(pilot, "fake-1b")
        app.chat.behind.loader.took_s = 0.6
        app.chat.post_message(ChatOpened(store.load(chat.id)))
        await shows(pilot, "4,096 tokens")
        await picture(pilot, "other-model")


async def test_memory_over_the_chat(open_app: OpenApp, width: int) -> None:
    async with shown(open_app, width) as pilot:
        await pilot.press(*(["f2"] if width < 92 else []))
        await shows(pilot, "KV cache")
        await picture(pilot, "memory")


async def test_a_model_that_does_not_load(open_app: OpenApp, width: int) -> None:
    script = Script(load_error=DoesNotFit("The weights need 9.0 GiB.", hint="Try a smaller context."))
    async with shown(open_app, width, script) as pilot:
        await picture(pilot, "no-model")
