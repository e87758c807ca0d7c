"""A model in the list of models, as it is drawn."""

from __future__ import annotations

from textual.content import Content
from textual.widgets.option_list import Option

from localllm.tui.picking import Row
from localllm.tui.wrapping import printable


class ModelLine(Option):
    """A row as it is drawn. What is selected is told by it: the list may be another one when that is heard of."""

    def __init__(self, row: Row) -> None:
        super().__init__(drawn(row), disabled=row.only_tells)
        self.row = row


def drawn(row: Row) -> Content:
    """The title, and the note below it."""
    title = Content(printable(row.title))
    if row.heading:
        title = title.stylize("bold")
    elif row.only_tells:
        title = title.stylize("$foreground 60%")
    if not row.note:
        return title
    return Content("\n").join([title, Content(printable(row.note)).stylize("$foreground 60%")])
