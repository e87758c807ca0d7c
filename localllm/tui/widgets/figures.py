"""Figures of answers in a table: one column for each answer. Knows nothing of how they were measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.widget import Widget

from localllm.measure.compared import UNKNOWN, figures
from localllm.measure.comparing import Answer
from localllm.tui.component import component_style
from localllm.tui.wrapping import printable

LABEL = 13


class Figures(Widget):
    """A line for each figure, below the names of the models where there are several. What is too long is cut."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"figures--label"}

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._answers: Sequence[Answer | None] = ()

    def show(self, answers: Sequence[Answer | None]) -> None:
        """Show these; None is one that is not there yet."""
        self._answers = answers
        self.refresh(layout=True)

    def render(self) -> Text:
        """Textual's."""
        columns = [dict(figures(answer)) if answer is not None else {} for answer in self._answers]
        labels = next((list(column) for column in columns if column), [])
        width = max(1, (self.size.width - LABEL) // max(1, len(columns)))
        label_style = component_style(self, "figures--label")
        rows = [(label, [column.get(label, UNKNOWN) for column in columns]) for label in labels]
        if len(columns) > 1 and rows:
            rows.insert(0, ("", [answer.contender.name if answer is not None else "" for answer in self._answers]))
        lines = []
        for label, values in rows:
            line = Text(no_wrap=True).append(label.ljust(LABEL), label_style)
            for value in values:
                cell = Text(printable(value).replace("\n", " "))
                cell.truncate(width - 1, overflow="ellipsis", pad=True)
                line.append_text(cell).append(" ")
            lines.append(line)
        return Text("\n").join(lines)
