"""Where the memory is: weights, KV cache, compute buffers, the process, the machine and each device, as bars.

Draws a sample; knows nothing of how it is taken.
"""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.widget import Widget

from localllm.counts import counted
from localllm.runtime.types import DeviceMemory, MemorySample
from localllm.tui.amounts import bar, size
from localllm.tui.component import component_style


class MemoryPanel(Widget):
    """A column of bars. Call `show` with each sample."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "memory-panel--title",
        "memory-panel--label",
        "memory-panel--filled",
        "memory-panel--empty",
        "memory-panel--note",
    }

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sample: MemorySample | None = None

    def show(self, sample: MemorySample | None) -> None:
        """Draw `sample`; None while there is no model."""
        if sample != self._sample:
            self._sample = sample
            self.refresh()

    def render(self) -> Text:
        """Textual's: the whole column."""
        lines = [self._styled("Memory", "title"), Text()]
        if self._sample is None:
            lines.append(self._styled("no model is loaded", "note"))
        else:
            lines += self._parts(self._sample)
            for device in self._sample.devices:
                lines += self._device(device)
        if len(lines) > self.size.height:
            lines = [line for line in lines if line]
        return Text("\n").join(lines)

    def _parts(self, sample: MemorySample) -> list[Text]:
        taken = sample.system_total - sample.system_available
        return [
            self._row("Weights", sample.weights),
            self._bar(sample.weights_held, sample.weights),
            *map(self._note, _weights_in_words(sample)),
            Text(),
            self._row("KV cache", sample.kv_allocated),
            self._bar(sample.kv_used, sample.kv_allocated),
            self._note(f"{size(sample.kv_used)} used of allocated" if sample.kv_used else "allocated, and empty"),
            Text(),
            self._row("Compute", sample.compute),
            *([self._row("Chats in RAM", sample.states)] if sample.states else []),
            *([self._row("Chats on disk", sample.snapshots)] if sample.snapshots else []),
            self._row("Process", sample.process),
            Text(),
            self._row("System", sample.system_total),
            self._bar(taken, sample.system_total),
            self._note(f"{size(sample.system_available)} available"),
        ]

    def _device(self, device: DeviceMemory) -> list[Text]:
        ours = device.weights + device.kv + device.compute
        layers = counted(device.layers, "layer") if device.layers else ""
        return [
            Text(),
            self._spread(device.name, layers),
            self._bar(device.total - device.free, device.total),
            self._note(f"{size(ours)} ours · {size(device.free)} free"),
        ]

    def _row(self, label: str, count: int) -> Text:
        return self._spread(label, size(count))

    def _spread(self, left: str, right: str) -> Text:
        room = self.size.width - len(right) - 1
        label = self._styled(left, "label")
        label.truncate(max(1, room), overflow="ellipsis", pad=True)
        return label + Text(f" {right}")

    def _bar(self, part: int, whole: int) -> Text:
        filled, empty = bar(part, whole, self.size.width)
        return self._styled(filled, "filled") + self._styled(empty, "empty")

    def _note(self, text: str) -> Text:
        note = self._styled(text, "note")
        note.truncate(self.size.width, overflow="ellipsis")
        return note

    def _styled(self, text: str, component: str) -> Text:
        return Text(text, component_style(self, f"memory-panel--{component}"), no_wrap=True)


def _weights_in_words(sample: MemorySample) -> list[str]:
    """How the weights are kept: parts that add up to them, and what of the mapped part is in RAM."""
    copied = sample.weights - sample.weights_in_place
    lines = [f"{size(copied)} copied from the file"] if copied else []
    if sample.weights_mapped and sample.weights_in_place:
        lines.append(f"{size(sample.weights_in_place)} mapped from the file")
        if sample.weights_resident is not None:
            lines.append(f"{size(sample.weights_held - copied)} of these in RAM")
    return lines
