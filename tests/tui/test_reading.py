"""Reading in the app: thoughts that fold, jumps, copies, finding; over a fake model."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.transcript import Transcript
from tests.tui.driving import Driver, OpenApp, ask, idle, say, screen_text, shows, type_at_once, wait_until
from tests.tui.fake import Script

pytestmark = pytest.mark.slow

THINKING = "<think>\nThe person asks about France.\n\nIt is Paris.\n</think>\n\nThe capital is **Paris**."
CODE = "First:\n\n```python\nprint(1)\n```\n\nThen:\n\n```sh\nls -l\n```\n\nDone."


def transcript(pilot: Driver) -> Transcript:
    return pilot.app.query_one(Transcript)


async def test_a_thought_is_seen_while_it_grows_and_folds_when_the_answer_begins(open_app: OpenApp) -> None:
    async with open_app(Script(reply=THINKING, piece_s=0.06)).run_test(size=(100, 30)) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "▾ Thinking…")
        await shows(pilot, "▎ The person asks")
        await wait_until(pilot, lambda: idle(pilot))
        screen = screen_text(pilot)
        assert "▸ Thought · 8 words" in screen
        assert "The capital is Paris." in screen
        assert "The person asks" not in screen
        await pilot.press("ctrl+t")
        await shows(pilot, "▎ The person asks about France.")
        assert "▾ Thought · 8 words" in screen_text(pilot)
        row = next(y for y, line in enumerate(screen_text(pilot).splitlines()) if "▾ Thought" in line)
        await pilot.click(offset=(5, row))
        await wait_until(pilot, lambda: "The person asks" not in screen_text(pilot))


async def test_a_thought_that_is_stopped_stays_in_sight(open_app: OpenApp) -> None:
    slow = Script(reply="<think>\n" + "One two three. " * 50, piece_s=0.02)
    async with open_app(slow).run_test(size=(100, 30)) as pilot:
        await say(pilot, "Capital?")
        await shows(pilot, "One two three")
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
        assert "▎ One two three" in screen_text(pilot)


async def test_files_of_a_message_fold(open_app: OpenApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_text("The code word is basalt.\n")
    async with open_app().run_test(size=(100, 30)) as pilot:
        await shows(pilot, "fake-1b")
        await ask(pilot, "What does @notes.md say?")
        assert "▌ ▸ notes.md · 1 line" in screen_text(pilot)
        assert "basalt" not in screen_text(pilot)
        await pilot.press("ctrl+t")
        await shows(pilot, "basalt")


async def test_jumping_and_copying(open_app: OpenApp) -> None:
    script = Script(reply=CODE)
    async with open_app(script).run_test(size=(100, 30)) as pilot:
        await ask(pilot, "Show me code")
        script.reply = "No code here."
        await ask(pilot, "And now?")
        await pilot.press("ctrl+o")
        assert pilot.app.clipboard == "No code here."
        await say(pilot, "/copy code")
        await pilot.pause()
        assert pilot.app.clipboard == "ls -l\n"
        for _ in range(3):
            await pilot.press("alt+up")
        current = transcript(pilot).current
        assert current is not None
        assert current.copied_text() == CODE
        assert " »First:" in screen_text(pilot)
        await pilot.press("ctrl+o")
        assert pilot.app.clipboard == CODE
        await pilot.press("escape")
        assert transcript(pilot).current is None
        await pilot.press("alt+up", "alt+up", "alt+down", "alt+down")
        assert transcript(pilot).current is None
        assert transcript(pilot).following


async def test_nothing_to_copy_is_said(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(100, 30), notifications=True) as pilot:
        await say(pilot, "/copy code")
        await shows(pilot, "There is no block of code to copy.")


async def test_finding_in_a_long_chat(open_app: OpenApp, store: Store) -> None:
    chat = Conversation()
    for number in range(300):
        store.add(chat, chat.add_user(f"Question {number}"))
        reply = chat.add_reply(chat.path()[-1].id)
        text = f"Answer {number} about **bas**alt and more." if number % 100 == 5 else f"Answer {number}."
        store.add(chat, chat.extend(reply.id, text))
        store.update(chat.finish(reply.id, None))
    async with open_app().run_test(size=(160, 40)) as pilot:
        await shows(pilot, "Question 0")
        await pilot.press("f3", "f3", "enter")
        await shows(pilot, "Answer 299")
        type_at_once(pilot, "ctrl+f", *"basalt")
        await shows(pilot, "3 / 3")
        assert "Answer 205 about basalt" in screen_text(pilot)
        await wait_until(pilot, lambda: not transcript(pilot)._search.pending, "all to be searched")
        await pilot.press("enter")
        await shows(pilot, "2 / 3")
        assert "Answer 105 about basalt" in screen_text(pilot)
        await pilot.press("down", "down")
        await shows(pilot, "1 / 3")
        assert "Answer 5 about basalt" in screen_text(pilot)
        await pilot.press(*"ic")
        await shows(pilot, "not found")
        await pilot.press("escape")
        assert isinstance(pilot.app.focused, Prompt)
        assert "not found" not in screen_text(pilot)
        await say(pilot, "/find  about BASALT")
        await shows(pilot, "3 / 3")
        await pilot.press("up")
        await shows(pilot, "2 / 3")
