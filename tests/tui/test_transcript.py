"""The line renderer in a small app of its own: following, scrolling, wrapping again, selecting."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.strip import Strip

from localllm.tui.entries import Entry, NoticeEntry, UserEntry
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.widgets.transcript import Transcript


class Host(App[None]):
    CSS = "Transcript { height: 1fr; overflow-x: hidden; scrollbar-gutter: stable; }"

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        super().__init__()
        self.transcript = Transcript()
        self._first = entries

    def compose(self) -> ComposeResult:
        yield self.transcript

    def on_mount(self) -> None:
        self.animation_level = "none"
        self.transcript.show(self._first)


def rows(host: Host) -> list[str]:
    transcript = host.transcript
    return [transcript.render_line(y).text.rstrip() for y in range(transcript.size.height)]


def conversation(count: int) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(count):
        entries += [UserEntry(f"question {number}"), ReplyEntry(f"answer {number} " + "and more words " * 20)]
    return entries


async def settle(pilot: Pilot[None]) -> None:
    await pilot.pause()
    await pilot.pause()


@pytest.mark.slow
async def test_a_conversation_is_shown_at_its_end() -> None:
    host = Host(conversation(500))
    async with host.run_test(size=(60, 20)) as pilot:
        await settle(pilot)
        assert "answer 499" in "\n".join(rows(host))
        assert host.transcript.following


@pytest.mark.slow
async def test_only_what_is_in_sight_is_drawn() -> None:
    entries = conversation(500)
    host = Host(entries)
    async with host.run_test(size=(60, 20)) as pilot:
        await settle(pilot)
        drawn = [entry for entry in entries if entry.is_drawn(host.transcript._page)]
        assert 2 <= len(drawn) <= 20


@pytest.mark.slow
async def test_a_growing_reply_is_followed_until_the_person_scrolls_up() -> None:
    reply = ReplyEntry()
    host = Host([*conversation(3), reply])
    async with host.run_test(size=(60, 20)) as pilot:
        await settle(pilot)
        for number in range(30):
            reply.grow(f"line {number}\n\n")
            host.transcript.redraw(reply)
        await settle(pilot)
        assert "line 29" in "\n".join(rows(host))
        host.transcript.action_page_up()
        await settle(pilot)
        seen = rows(host)
        assert not host.transcript.following
        for number in range(30, 60):
            reply.grow(f"line {number}\n\n")
            host.transcript.redraw(reply)
        await settle(pilot)
        assert rows(host) == seen
        host.transcript.action_scroll_end()
        await settle(pilot)
        assert "line 59" in "\n".join(rows(host))
        assert host.transcript.following


@pytest.mark.slow
async def test_scrolling_up_through_messages_never_drawn_shows_every_line_once() -> None:
    entries: list[Entry] = [ReplyEntry("\n\n".join(f"entry {e} line {n}" for n in range(7))) for e in range(40)]
    host = Host(entries)
    async with host.run_test(size=(60, 10)) as pilot:
        await settle(pilot)
        seen: list[str] = []
        while True:
            seen.append(rows(host)[0])
            if host.transcript.scroll_offset.y == 0:
                break
            host.transcript.scroll_relative(y=-1, immediate=True)
        lines = [line.strip() for line in reversed(seen) if line.strip()]
        expected = [f"entry {e} line {n}" for e in range(40) for n in range(7)]
        assert lines == expected[: len(lines)]
        assert len(lines) > 250


@pytest.mark.slow
async def test_another_width_wraps_again_and_keeps_the_place() -> None:
    host = Host(conversation(50))
    async with host.run_test(size=(100, 20)) as pilot:
        await settle(pilot)
        host.transcript.scroll_to(y=40, animate=False, immediate=True)
        await settle(pilot)
        top = next(line for line in rows(host) if "question" in line or "answer" in line)
        await pilot.resize_terminal(50, 20)
        await settle(pilot)
        assert all(len(line) <= 50 for line in rows(host))
        assert top.strip("▌ ").split(" and")[0] in "\n".join(rows(host))
        await pilot.resize_terminal(200, 20)
        await settle(pilot)
        assert all(len(line) <= 200 for line in rows(host))


async def test_lines_are_never_longer_than_can_be_read_and_are_centred() -> None:
    host = Host([ReplyEntry("word " * 200)])
    async with host.run_test(size=(300, 20)) as pilot:
        await settle(pilot)
        text = rows(host)[0]
        assert len(text.strip()) <= 100
        left = len(text) - len(text.lstrip())
        assert abs(left - (300 - 100) // 2) <= 3


async def test_what_the_person_said_is_told_apart_without_colour_and_kept_word_for_word() -> None:
    host = Host([UserEntry("**not bold**\n  indented\n\nlast"), ReplyEntry("**bold**"), NoticeEntry("Sorry.", "Try.")])
    async with host.run_test(size=(60, 20)) as pilot:
        await settle(pilot)
        assert [line for line in rows(host) if line] == [
            " ▌ **not bold**",
            " ▌   indented",
            " ▌",
            " ▌ last",
            "   bold",
            " ▌ Sorry.",
            " ▌ Try.",
        ]


async def test_control_characters_never_reach_the_terminal() -> None:
    host = Host([UserEntry("a\x1b[31mb\x07\r\nc"), ReplyEntry("d\x1b]0;x\x07e\u009b")])
    async with host.run_test(size=(60, 20)) as pilot:
        await settle(pilot)
        assert not [c for line in rows(host) for c in line if ord(c) < 32 or 127 <= ord(c) < 160]
        assert " ▌ c" in rows(host)


@pytest.mark.slow
async def test_text_is_selected_with_the_mouse_without_margin_and_padding() -> None:
    host = Host([UserEntry("first line"), ReplyEntry("second line\n\nthird line")])
    async with host.run_test(size=(60, 20)) as pilot:
        await settle(pilot)
        await pilot.mouse_down(host.transcript, offset=(5, 0))
        await pilot.hover(host.transcript, offset=(8, 4))
        await pilot.mouse_up(host.transcript, offset=(8, 4))
        await settle(pilot)
        assert host.screen.get_selected_text() == "rst line\n\nsecond line\n\nthird"
        painted = host.transcript.render_line(2)
        plain = host.transcript.render_line(10)
        assert {segment.style.bgcolor for segment in painted if segment.style} != {
            segment.style.bgcolor for segment in plain if segment.style
        }


@pytest.mark.slow
async def test_a_theme_change_draws_everything_again() -> None:
    host = Host([ReplyEntry("# Heading\n\nwords")])
    async with host.run_test(size=(60, 20)) as pilot:
        await settle(pilot)
        before = host.transcript.render_line(0)
        host.theme = "textual-light"
        await settle(pilot)
        after = host.transcript.render_line(0)
        assert before.text == after.text
        assert styles(before) != styles(after)


def styles(strip: Strip) -> list[object]:
    return [(segment.style.color, segment.style.bgcolor) for segment in strip if segment.style]


@pytest.mark.parametrize("width", [60, 100, 300])
async def test_every_row_fills_the_width_exactly(width: int) -> None:
    host = Host(
        [UserEntry("東京 🗼 " * 30), ReplyEntry("```\n" + "東" * 200 + "\n```\n\n| a | b |\n|--|--|\n| 1 | 2 |")]
    )
    async with host.run_test(size=(width, 30)) as pilot:
        await settle(pilot)
        lengths = {host.transcript.render_line(y).cell_length for y in range(20)}
        assert lengths == {host.transcript.scrollable_content_region.width} or lengths == {
            host.transcript.scrollable_content_region.width,
            host.transcript.size.width,
        }


async def test_what_is_shown_while_hidden_is_there_when_it_is_not() -> None:
    host = Host([UserEntry("before")])
    async with host.run_test(size=(60, 12)) as pilot:
        host.transcript.display = False
        await pilot.pause()
        host.transcript.show([UserEntry(f"message {number}", f"id {number}") for number in range(30)])
        host.transcript.display = True
        await pilot.pause()
        host.transcript.go_to("id 3")
        await pilot.pause()
        assert host.transcript.current is host.transcript.entries[3]
        assert "message 3" in host.transcript.render_line(0).text
