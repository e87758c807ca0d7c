"""NO_COLOR: no colour is written, and all that was told by colours is told otherwise."""

from __future__ import annotations

import pytest
from rich.style import Style

from localllm.errors import ModelNotFound
from localllm.tui.widgets.prompt import Prompt
from tests.tui.driving import Driver, OpenApp, ask, screen_text, shows, wait_until
from tests.tui.fake import Script

pytestmark = [pytest.mark.slow]


@pytest.fixture(autouse=True)
def _no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


def styles_of(pilot: Driver, text: str) -> list[Style]:
    """How the rows with `text` are drawn, where they have it; and nothing on the screen has a colour."""
    found = []
    for strip in pilot.app.screen._compositor.render_strips():
        for segment in strip:
            style = segment.style or Style()
            assert (style.color, style.bgcolor) == (None, None), f"{segment.text!r} is {style}"
            if text in segment.text:
                found.append(style)
    assert found, f"no {text!r} in\n{screen_text(pilot)}"
    return found


async def reversed_text(pilot: Driver, text: str) -> None:
    await wait_until(pilot, lambda: text in screen_text(pilot) and any(s.reverse for s in styles_of(pilot, text)), text)


async def test_words_and_figures_have_no_colour(open_app: OpenApp) -> None:
    async with open_app(Script("It is `Paris`.\n\n```python\ndef f(): pass\n```")).run_test(size=(120, 36)) as pilot:
        await ask(pilot, "Capital?")
        assert "▌ Capital?" in screen_text(pilot)
        assert all(style.italic for style in styles_of(pilot, "Paris"))
        assert any(style.bold for style in styles_of(pilot, "def"))
        assert styles_of(pilot, "reused")[0].dim


async def test_the_focus_is_a_frame_and_a_cursor(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(120, 36)) as pilot:
        await ask(pilot, "Capital?")
        assert "┏" in screen_text(pilot)
        assert styles_of(pilot, "W")[-1].reverse, "the cursor on the placeholder"
        await pilot.press("f3")
        await wait_until(pilot, lambda: "┏" not in screen_text(pilot))


@pytest.mark.parametrize(("keys", "row"), [(("f3",), "Capital?"), (("f8", "down"), "↓"), (("slash",), "/")])
async def test_the_row_that_is_chosen_is_reversed(open_app: OpenApp, keys: tuple[str, ...], row: str) -> None:
    async with open_app().run_test(size=(120, 36)) as pilot:
        await ask(pilot, "Capital?")
        await pilot.press(*keys)
        await reversed_text(pilot, row)


async def test_the_chosen_command_of_the_palette_is_reversed(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(120, 36)) as pilot:
        await pilot.press("ctrl+p")
        await shows(pilot, "All memory")
        await pilot.press("down")
        await reversed_text(pilot, "Show or hide the list of chats")


async def test_what_is_found_is_underlined_and_the_one_shown_reversed(open_app: OpenApp) -> None:
    async with open_app(Script("one two two")).run_test(size=(120, 36)) as pilot:
        await ask(pilot, "Say it")
        await pilot.press("ctrl+f", *"two")
        await shows(pilot, "/ 2")
        at = [style for style in styles_of(pilot, "two") if style.underline or style.reverse]
        assert [bool(style.reverse) for style in at] == [False, True]


async def test_what_is_wrong_is_bold(open_app: OpenApp) -> None:
    script = Script(load_error=ModelNotFound("There is no such file.", hint="Pull it."))
    async with open_app(script).run_test(size=(120, 36)) as pilot:
        await shows(pilot, "no model")
        assert all(style.bold for style in styles_of(pilot, "There is no such file."))


async def test_a_row_that_is_clicked_is_still_that_row(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(120, 36)) as pilot:
        await pilot.press("slash")
        await shows(pilot, "/open")
        row = next(y for y, line in enumerate(screen_text(pilot).splitlines()) if "/open" in line)
        await pilot.click(offset=(10, row))
        await wait_until(pilot, lambda: pilot.app.query_one(Prompt).text.startswith("/open"))
