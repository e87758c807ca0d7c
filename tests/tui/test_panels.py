"""The panels and lines around the conversation, each in a small app of its own."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import ClassVar

import pytest
from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget

from localllm.chat.rows import ChatEntry
from localllm.runtime.types import DeviceMemory, MemorySample, Stats
from localllm.tui.messages import ChatChosen, ChatDropped
from localllm.tui.widgets.chat_list import ChatList
from localllm.tui.widgets.key_line import KeyLine
from localllm.tui.widgets.memory_panel import MemoryPanel
from localllm.tui.widgets.status_line import Status, StatusLine, cost

MIB, GIB = 1 << 20, 1 << 30
STATS = Stats(541, 412, 128, 0.123, 800.0, 34.06, "end")
SAMPLE = MemorySample(
    weights_mapped=100 * MIB,
    weights_resident=50 * MIB,
    kv_used=10 * MIB,
    kv_allocated=180 * MIB,
    compute=21 * MIB,
    process=300 * MIB,
    system_available=12 * GIB,
    system_total=16 * GIB,
    devices=(DeviceMemory("CUDA0", "gpu", 3 * GIB, GIB, 0, 4 * GIB, 8 * GIB, 20),),
)


class Host(App[None]):
    CSS = "ChatList { text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget
        self.heard: list[object] = []

    def compose(self) -> ComposeResult:
        yield self.widget

    @on(ChatChosen)
    @on(ChatDropped)
    def hear(self, event: ChatChosen | ChatDropped) -> None:
        self.heard.append(event)


def lines(widget: Widget) -> list[str]:
    return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]


def test_the_cost_of_a_reply_tells_what_was_lost() -> None:
    lossy = replace(STATS, dropped_messages=4, rewritten_tokens=1200)
    assert cost(lossy)[-2:] == [
        "4 messages left out, the oldest",
        "1,200 tokens computed again: the chat template rewrites earlier turns",
    ]
    assert cost(STATS)[-1].startswith("reused")


async def test_memory_shows_each_part_with_a_bar_in_proportion() -> None:
    panel = MemoryPanel()
    async with Host(panel).run_test(size=(30, 24)) as pilot:
        panel.show(SAMPLE)
        await pilot.pause()
        assert [line for line in lines(panel) if line] == [
            "Memory",
            "Weights               3.00 GiB",
            "━" * 1 + "─" * 29,
            "3.00 GiB mapped from the file",
            "50.0 MiB of these in RAM",
            "KV cache             180.0 MiB",
            "━" * 2 + "─" * 28,
            "10.0 MiB used of allocated",
            "Compute               21.0 MiB",
            "Process              300.0 MiB",
            "System                16.0 GiB",
            "━" * 8 + "─" * 22,
            "12.0 GiB available",
            "CUDA0                20 layers",
            "━" * 15 + "─" * 15,
            "4.00 GiB ours · 4.00 GiB free",
        ]
        panel.show(replace(SAMPLE, states=5 * MIB, snapshots=9 * MIB))
        await pilot.pause()
        kept = ["Chats in RAM           5.0 MiB", "Chats on disk          9.0 MiB"]
        assert set(kept) < set(lines(panel))
        panel.show(None)
        await pilot.pause()
        assert "no model is loaded" in lines(panel)


async def test_weights_that_were_copied_are_told_where_the_file_need_not_stay() -> None:
    panel = MemoryPanel()
    async with Host(panel).run_test(size=(30, 24)) as pilot:
        cpu = DeviceMemory("CPU", "cpu", 120 * MIB, 180 * MIB, 20 * MIB, 12 * GIB, 16 * GIB, 20)
        panel.show(replace(SAMPLE, weights_resident=0, weights_copied=90 * MIB, compute=20 * MIB, devices=(cpu,)))
        await pilot.pause()
        shown = [line for line in lines(panel) if line]
        assert shown[1:6] == [
            "Weights              120.0 MiB",
            "━" * 22 + "─" * 8,
            "90.0 MiB copied from the file",
            "30.0 MiB mapped from the file",
            "0 B of these in RAM",
        ]
        assert "Compute               20.0 MiB" in shown
        assert shown[-1].startswith("320.0 MiB ours")  # weights, KV cache and compute as they stand above


@pytest.mark.slow
async def test_memory_that_the_system_cannot_tell_is_not_made_up() -> None:
    panel = MemoryPanel()
    async with Host(panel).run_test(size=(30, 24)) as pilot:
        panel.show(replace(SAMPLE, weights_resident=None))
        await pilot.pause()
        assert "of these" not in "\n".join(lines(panel))
        assert "3.00 GiB mapped from the file" in lines(panel)


@pytest.mark.parametrize("width", [12, 20, 28])
async def test_memory_fits_a_narrow_panel(width: int) -> None:
    panel = MemoryPanel()
    async with Host(panel).run_test(size=(width, 24)) as pilot:
        panel.show(SAMPLE)
        await pilot.pause()
        assert max(len(line) for line in lines(panel)) <= width


@pytest.mark.slow
async def test_the_status_line_says_all_it_has_room_for() -> None:
    line = StatusLine()
    status = Status(model="m Q4_0", context_used=541, context_total=8192, stats=STATS)
    async with Host(line).run_test(size=(100, 3)) as pilot:
        line.show(status)
        await pilot.pause()
        assert lines(line)[0] == (
            "m Q4_0   context 541 / 8,192 ━───────   34.1 tok/s   first token 0.12 s   reused 412 of 541"
        )
        await pilot.resize_terminal(60, 3)
        await pilot.pause()
        assert lines(line)[0] == "m Q4_0   context 541 / 8,192 ━───────   34.1 tok/s"
        await pilot.resize_terminal(20, 3)
        await pilot.pause()
        assert lines(line)[0] == "m Q4_0"


async def test_a_long_name_of_a_model_does_not_push_out_the_figures() -> None:
    line = StatusLine()
    async with Host(line).run_test(size=(60, 3)) as pilot:
        line.show(Status(model="A model with a very long name indeed Q4_K_M", context_used=541, context_total=8192))
        await pilot.pause()
        assert lines(line)[0] == "A model with a very…   context 541 / 8,192 ━───────"


async def test_the_status_line_shows_progress_and_live_rate() -> None:
    line = StatusLine()
    async with Host(line).run_test(size=(80, 3)) as pilot:
        line.show(Status(doing="prompt 50 / 100", fraction=0.5))
        await pilot.pause()
        assert lines(line)[0] == "prompt 50 / 100 ━━━━────"
        line.show(Status(doing="writing", live_rate=120.4, stats=STATS))
        await pilot.pause()
        assert lines(line)[0] == "writing   120 tok/s"


def entry(name: str, messages: int = 2, updated: float | None = None) -> ChatEntry:
    now = time.time() if updated is None else updated
    return ChatEntry(name, f"title of {name}", now, now, messages)


class Keys(Host):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f1", "note('first')", "First"),
        Binding("ctrl+r", "note('second')", "Second"),
        Binding("f2", "note('hidden')", "Hidden", show=False),
        Binding("f3", "note('third')", "Third"),
    ]

    def action_note(self, name: str) -> None:
        self.heard.append(name)


@pytest.mark.slow
async def test_the_line_of_keys_shows_what_fits_and_can_be_clicked() -> None:
    line = KeyLine()
    host = Keys(line)
    async with host.run_test(size=(60, 3)) as pilot:
        await pilot.pause()
        assert lines(line)[0].startswith("f1 First  ^r Second  f3 Third")
        await pilot.click(line, offset=(12, 0))
        await pilot.click(line, offset=(3, 0))
        await pilot.click(line, offset=(59, 0))
        await pilot.resize_terminal(25, 3)
        await pilot.pause()
        assert lines(line)[0] == "f1 First  ^r Second"
    assert host.heard == ["second", "first"]


async def test_chats_are_listed_with_the_open_one_marked() -> None:
    chats = ChatList()
    async with Host(chats).run_test(size=(40, 12)) as pilot:
        chats.show([entry("a"), entry("b", 1, 0.0)], "a")
        await pilot.pause()
        shown = "\n".join(lines(chats))
        assert "● title of a" in shown
        assert "● title of b" not in shown
        assert "title of b" in shown
        assert " · 2 messages" in shown
        assert "19" in shown.splitlines()[-1] or "· 1 message" in shown


@pytest.mark.slow
async def test_a_chat_is_chosen_and_deleted_with_keys() -> None:
    chats = ChatList()
    host = Host(chats)
    async with host.run_test(size=(40, 12)) as pilot:
        chats.show([entry("a"), entry("b")], "a")
        chats.focus()
        await pilot.press("down", "enter", "delete")
        await pilot.pause()
    chosen, dropped = host.heard
    assert isinstance(chosen, ChatChosen)
    assert chosen.chat_id == "b"
    assert isinstance(dropped, ChatDropped)
    assert (dropped.chat_id, dropped.title) == ("b", "title of b")


@pytest.mark.slow
async def test_an_empty_list_of_chats_ignores_its_keys() -> None:
    chats = ChatList()
    host = Host(chats)
    async with host.run_test(size=(40, 12)) as pilot:
        chats.show([], "a")
        chats.focus()
        await pilot.press("enter", "delete")
        await pilot.pause()
    assert host.heard == []


async def test_titles_are_cut_to_one_line_and_cannot_hold_markup_or_control_characters() -> None:
    chats = ChatList()
    async with Host(chats).run_test(size=(30, 12)) as pilot:
        chats.show([ChatEntry("a", "[red]x[/red] \x1b[31m " + "long " * 20, 0.0, 0.0, 1)], "b")
        await pilot.pause()
        text = [line for line in lines(chats) if line.strip()]
        assert "[red]x[/red] �[31m" in text[0]
        assert len(text) == 2
