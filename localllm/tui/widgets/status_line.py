"""One line on how things stand: the model, the context, and what the last reply cost.

Draws a `Status`; knows nothing of where it comes from. What does not fit is left out from the right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.widget import Widget

from localllm.runtime.types import Stats
from localllm.tui import amounts
from localllm.tui.component import component_style

GAUGE = 8
GAP = "   "
SHORTEST_NAME = 16


@dataclass(frozen=True)
class Status:
    """What the line says. `doing` is what goes on now, with a bar while `fraction` is not None.

    `context_used` and `context_total` are in tokens; a total of 0 is not known yet. `live_rate` is in tokens per
    second, while words arrive; `stats` is what the last reply cost; `download` is how far a download is.
    """

    model: str = ""
    doing: str = ""
    fraction: float | None = None
    trouble: bool = False
    context_used: int = 0
    context_total: int = 0
    live_rate: float = 0.0
    stats: Stats | None = None
    below: bool = False
    download: str = ""


class StatusLine(Widget):
    """The line above the keys."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "status-line--model",
        "status-line--filled",
        "status-line--empty",
        "status-line--trouble",
        "status-line--value",
    }

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._status = Status()

    @property
    def status(self) -> Status:
        """What is shown."""
        return self._status

    def show(self, status: Status) -> None:
        """Show `status`."""
        if status != self._status:
            self._status = status
            self.refresh()

    def render(self) -> Text:
        """Textual's: the line."""
        line = Text(no_wrap=True, overflow="ellipsis")
        for part in self._parts():
            gap = GAP if line else ""
            if line and line.cell_len + len(gap) + part.cell_len > self.size.width:
                break
            line.append(gap)
            line.append_text(part)
        line.truncate(self.size.width, overflow="ellipsis")
        return line

    def _parts(self) -> list[Text]:
        status = self._status
        parts: list[Text] = []
        if status.below:
            parts.append(self._styled("↓ more below, Ctrl+End", "value"))
        if status.doing:
            doing = self._styled(status.doing, "trouble" if status.trouble else "value")
            parts.append(doing if status.fraction is None else doing + Text(" ") + self._gauge(status.fraction))
        if status.context_total:
            # Of a chat that is too long for it the context holds nothing: F6 has the figures.
            total = status.context_total
            used = min(status.context_used, total)
            figures = f"context {amounts.tokens(used)} / {amounts.tokens(total)}{' full' if used == total else ''} "
            parts.append(Text(figures) + self._gauge(used / total))
        if status.download:
            parts.append(self._styled(status.download, "value"))
        if status.live_rate:
            parts.append(Text(amounts.rate(status.live_rate)))
        if status.stats is not None and not status.live_rate:
            parts += [Text(text) for text in cost(status.stats)]
        if status.model:
            model = self._styled(status.model, "model")
            # A long name shall not push out the figures.
            model.truncate(max(SHORTEST_NAME, self.size.width // 3), overflow="ellipsis")
            parts.insert(0, model)
        return parts

    def _gauge(self, fraction: float) -> Text:
        filled, empty = amounts.bar(fraction, 1.0, GAUGE)
        return self._styled(filled, "filled") + self._styled(empty, "empty")

    def _styled(self, text: str, component: str) -> Text:
        return Text(text, component_style(self, f"status-line--{component}"))


def cost(stats: Stats) -> list[str]:
    """What a reply cost, the most telling first."""
    parts = []
    if stats.decode_tps:
        parts.append(amounts.rate(stats.decode_tps))
    if stats.completion_tokens:
        parts.append(f"first token {amounts.seconds(stats.ttft_s)}")
    parts.append(f"reused {amounts.tokens(stats.cached_tokens)} of {amounts.tokens(stats.prompt_tokens)}")
    return parts + stats.losses
