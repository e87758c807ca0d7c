"""The field where the person writes, in a small app of its own."""

from __future__ import annotations

import pytest
from textual import events, on
from textual.app import App, ComposeResult

from localllm.chat.completing import Choice, Word
from localllm.tui.messages import PromptSent
from localllm.tui.widgets.prompt import Prompt


class Host(App[None]):
    CSS = "Prompt { height: auto; max-height: 6; }"

    def __init__(self) -> None:
        super().__init__()
        self.prompt = Prompt()
        self.sent: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.prompt

    @on(PromptSent)
    def take(self, event: PromptSent) -> None:
        self.sent.append(event.text)


@pytest.mark.slow
async def test_enter_sends_and_empties() -> None:
    host = Host()
    async with host.run_test() as pilot:
        await pilot.press(*"hi", "enter")
        await pilot.pause()
        assert host.sent == ["hi"]
        assert host.prompt.text == ""


async def test_letters_typed_ahead_of_enter_are_part_of_the_message() -> None:
    host = Host()
    async with host.run_test() as pilot:
        # As from a terminal that hands over a whole burst at once.
        for key in [*"fast", "space", *"typist", "enter", *"next"]:
            character = " " if key == "space" else "\r" if key == "enter" else key
            host.post_message(events.Key(key, character))
        await pilot.pause()
        await pilot.pause()
        assert host.sent == ["fast typist"]
        assert host.prompt.text == "next"


@pytest.mark.slow
async def test_a_message_that_was_not_taken_comes_before_what_was_typed_since() -> None:
    host = Host()
    async with host.run_test() as pilot:
        await pilot.press(*"one", "enter", *" two")
        host.prompt.put_back("one")
        await pilot.press("enter")
        await pilot.pause()
        assert host.sent == ["one", "one two"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["ctrl+j", "shift+enter"])
async def test_lines_can_be_broken_and_the_field_grows(key: str) -> None:
    host = Host()
    async with host.run_test() as pilot:
        low = host.prompt.size.height
        await pilot.press("a", key, "b", key, "c")
        await pilot.pause()
        assert host.prompt.text == "a\nb\nc"
        assert host.prompt.size.height == low + 2
        await pilot.press(*[key] * 20)
        await pilot.pause()
        assert host.prompt.outer_size.height <= 6
        await pilot.press("d", "enter")
        await pilot.pause()
        assert host.sent == ["a\nb\nc" + "\n" * 20 + "d"]
        assert host.prompt.size.height == low


@pytest.mark.slow
async def test_a_paste_of_many_lines_is_one_message() -> None:
    host = Host()
    async with host.run_test() as pilot:
        host.post_message(events.Paste("one\r\ntwo\rthree\n\n"))
        await pilot.pause()
        assert host.sent == []
        assert host.prompt.text == "one\ntwo\nthree\n\n"
        await pilot.press("enter")
        await pilot.pause()
        assert host.sent == ["one\ntwo\nthree"]


@pytest.mark.slow
async def test_space_is_not_a_message() -> None:
    host = Host()
    async with host.run_test() as pilot:
        await pilot.press("enter", "space", "ctrl+j", "enter")
        await pilot.pause()
        assert host.sent == []


@pytest.mark.slow
async def test_earlier_messages_are_at_the_edges_and_the_draft_is_not_lost() -> None:
    host = Host()
    async with host.run_test() as pilot:
        host.prompt.remember(["from another chat"])
        for text in ("first", "second", "second"):
            await pilot.press(*text, "enter")
            await pilot.pause()
        await pilot.press(*"draft", "up")
        assert host.prompt.text == "second"
        await pilot.press("up")
        assert host.prompt.text == "first"
        await pilot.press("up", "up", "up")
        assert host.prompt.text == "from another chat"
        await pilot.press("down", "down", "down")
        assert host.prompt.text == "draft"
        await pilot.press("down")
        assert host.prompt.text == "draft"


@pytest.mark.slow
async def test_up_and_down_move_inside_a_text_of_several_lines() -> None:
    host = Host()
    async with host.run_test() as pilot:
        host.prompt.remember(["earlier"])
        await pilot.press("a", "ctrl+j", "b", "up")
        assert host.prompt.text == "a\nb"
        assert host.prompt.cursor_location[0] == 0
        await pilot.press("up")
        assert host.prompt.text == "earlier"
        await pilot.press("down")
        assert host.prompt.text == "a\nb"


@pytest.mark.slow
async def test_wide_characters_can_be_written() -> None:
    host = Host()
    async with host.run_test() as pilot:
        host.prompt.post_message(events.Key("東", "東"))
        await pilot.press("enter")
        await pilot.pause()
        assert host.sent == ["東"]


async def test_a_command_typed_ahead_of_tab_or_enter_is_the_one_that_is_meant() -> None:
    host = Host()
    async with host.run_test() as pilot:
        for key in ["/", *"att", "tab", *"a.md", "enter", "/", *"reg", "enter"]:
            host.post_message(events.Key(key, "\r" if key in ("tab", "enter") else key))
        await pilot.pause()
        await pilot.pause()
        assert host.sent == ["/attach a.md", "/retry"]


@pytest.mark.slow
async def test_enter_saves_to_the_file_that_is_named_and_tab_takes_one_that_is_there() -> None:
    host = Host()
    async with host.run_test() as pilot:
        for key in ("enter", "tab"):
            await pilot.press(*"/save ta")
            host.prompt.offer(Word("save", "ta", 6), [Choice("talks/", "talks/", whole=False)])
            await pilot.press(key)
        assert host.sent == ["/save ta"]
        assert host.prompt.text == "/save talks/"


@pytest.mark.slow
async def test_a_command_that_failed_gives_way_to_what_is_typed() -> None:
    host = Host()
    async with host.run_test() as pilot:
        host.prompt.put_back_command("/halp")
        assert host.prompt.text == "/halp"
        await pilot.press(*"/undo")
        assert host.prompt.text == "/undo"
        host.prompt.put_back_command("/halp")
        assert host.prompt.text == "/undo"
