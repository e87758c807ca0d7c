"""What the word at the cursor may become, above the prompt.

Shows choices and says which is picked; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text
from textual import on
from textual.content import Content
from textual.visual import VisualType
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localllm.chat.completing import Choice
from localllm.tui.messages import ChoicePicked

LABEL = 22
"""Meanings begin at this column where labels are short enough."""


class Suggestions(OptionList, can_focus=False):
    """A few lines to pick from while the prompt keeps the focus."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._choices: list[Choice] = []
        self.display = False

    def show(self, choices: Sequence[Choice]) -> None:
        """Show `choices`, the first highlighted; none hides the list."""
        if list(choices) == self._choices:
            return
        self._choices = list(choices)
        self.display = bool(choices)
        with self.prevent(OptionList.OptionHighlighted):
            self.set_options([Option(_line(choice)) for choice in choices])
            self.highlighted = 0 if choices else None

    @property
    def picked(self) -> Choice | None:
        """The choice that is highlighted."""
        return self._choices[self.highlighted] if self.highlighted is not None and self._choices else None

    def move(self, step: int) -> None:
        """Highlight the choice after, or with -1 the one before; it goes round."""
        if step > 0:
            self.action_cursor_down()
        else:
            self.action_cursor_up()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.post_message(ChoicePicked(self._choices[event.option_index]))


def _line(choice: Choice) -> VisualType:
    """The label, and beside it the meaning, which goes on below itself where it is too long for a line."""
    if not choice.meaning:
        return Content(choice.label)
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(min_width=LABEL, no_wrap=True)
    line.add_column(style="dim")
    line.add_row(Text(choice.label), Text(choice.meaning))
    return line
