"""The whole of the memory: each device as a bar of its parts, the last minutes, and which layer is where.

Draws samples; knows nothing of how they are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.widget import Widget

from localllm.runtime.types import MemorySample
from localllm.tui.amounts import size
from localllm.tui.component import component_style
from localllm.tui.memory_parts import Part, columns, layer_map, parts_of
from localllm.tui.vitals import History, Machine

MARKS = {
    "weights": "█",
    "kv": "▓",
    "kv-empty": "▒",
    "compute": "▚",
    "states": "▞",
    "engine": "◦",
    "app": "•",
    "others": "░",
    "free": "·",
}
"""What a part is drawn with: told apart without colour too."""

STEPS = " ▁▂▃▄▅▆▇█"
LABEL = 22
AMOUNT = 11


class MemoryMap(Widget):
    """Call `show` with each sample."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        *(f"memory-map--{name}" for name in MARKS),
        "memory-map--title",
        "memory-map--note",
        "memory-map--line",
    }

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sample: MemorySample | None = None
        self._machine: Machine | None = None
        self._history = History()

    def show(self, sample: MemorySample | None, machine: Machine | None, history: History) -> None:
        """Draw these; None while there is no model."""
        self._sample, self._machine, self._history = sample, machine, history
        self.refresh(layout=True)

    def render(self) -> Text:
        """Textual's: all of it."""
        if self._sample is None or self._machine is None:
            return self._styled("no model is loaded", "note")
        lines: list[Text] = []
        for device in self._sample.devices:
            lines += [self._title(f"{device.name} {size(device.total)}", f"{size(device.free)} free")]
            lines += [*self._device(parts_of(device, self._sample, self._machine)), Text()]
        lines += [*self._sums(self._sample, self._machine), Text(), self._title("The last minutes"), *self._lately()]
        lines += [Text(), self._title("Layers"), *self._layers(self._sample)]
        return Text("\n").join(lines)

    def _title(self, text: str, right: str = "") -> Text:
        line = self._styled(text, "title")
        gap = self.size.width - line.cell_len - len(right)
        return line.append(" " * max(1, gap)).append_text(self._styled(right, "note")) if right else line

    def _device(self, parts: list[Part]) -> list[Text]:
        bar = Text(no_wrap=True)
        for part, wide in zip(parts, columns(parts, self.size.width), strict=True):
            bar.append_text(self._styled(MARKS[part.name] * wide, part.name))
        lines = [bar, Text(no_wrap=True)]
        for part in parts:
            said = self._styled(MARKS[part.name], part.name).append_text(self._styled(f" {part.said}", "note"))
            gap = "   " if lines[-1].cell_len else ""
            if gap and lines[-1].cell_len + len(gap) + said.cell_len > self.size.width:
                lines.append(Text(no_wrap=True))
                gap = ""
            lines[-1].append(gap).append_text(said)
        return lines

    def _sums(self, sample: MemorySample, machine: Machine) -> list[Text]:
        lines = [self._styled(f"engine's process {size(sample.process)} · app {size(machine.app)}", "note")]
        if sample.snapshots:
            lines.append(self._styled(f"chats kept on disk {size(sample.snapshots)}", "note"))
        if machine.swap_used:
            lines.append(self._styled(f"swapped out by all programs {size(machine.swap_used)}", "note"))
        return lines

    def _lately(self) -> list[Text]:
        room = max(4, self.size.width - LABEL - AMOUNT)
        return [
            self._styled(f"{name:<{LABEL}}", "note")
            .append_text(self._styled(sparkline(values, room), "line"))
            .append_text(self._styled(f"{size(values[-1]) if values else '':>{AMOUNT}}", "note"))
            for name, values in self._history.lines()
        ]

    def _layers(self, sample: MemorySample) -> list[Text]:
        places = layer_map(sample.devices)
        total = max((place.end for place in places), default=0)
        width = max(1, min(total, self.size.width - LABEL))
        lines = []
        for place in places:
            begin, end = place.begin * width // total, max(1, place.end * width // total)
            label = f"{place.device} {place.begin}–{place.end - 1}"
            strip = self._styled(f"{label:<{LABEL}}", "note").append_text(self._styled("·" * begin, "free"))
            strip.append_text(self._styled("█" * (end - begin), "weights"))
            lines.append(strip.append_text(self._styled("·" * (width - end), "free")))
        return lines

    def _styled(self, text: str, component: str) -> Text:
        return Text(text, component_style(self, f"memory-map--{component}"), no_wrap=True)


def sparkline(values: Sequence[int], width: int) -> str:
    """The last of `values` as blocks, at most `width` of them, from nothing to the largest of those."""
    shown = values[-width:]
    most = max(shown, default=0)
    blocks = "".join(STEPS[-(-value * (len(STEPS) - 1) // most)] if most else STEPS[0] for value in shown)
    return blocks.rjust(width)
