"""The models on this machine and in the catalogue, to pick from or to download.

Shows choices; its result is the one to load. Downloads go on when it is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localllm.tui.downloads import Downloads
from localllm.tui.messages import DownloadMoved, ModelsListed
from localllm.tui.models import Choice
from localllm.tui.wording import download_line
from localllm.tui.wrapping import printable

HERE = "Enter loads it · Esc back"
ABSENT = "Enter downloads it, beside the chat · Esc back"
UNDER_WAY = "Delete stops it; what has arrived is kept · Esc back"


class ModelsScreen(ModalScreen[Choice | None]):
    """A list; Enter loads what is here and downloads what is not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f8", "dismiss", "Back"),
        Binding("delete,backspace", "stop", "Stop the download"),
    ]

    def __init__(self, downloads: Downloads, open_name: str, room: int | None) -> None:
        super().__init__()
        self._downloads = downloads
        self._open = open_name
        self._room = room
        self._choices: Sequence[Choice] = ()
        self._progress = ""

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Vertical(id="models") as box:
            box.border_title = "Models"
            box.border_subtitle = "looking for models…"
            yield OptionList(id="models-choices")

    @on(ModelsListed)
    def _listed(self, event: ModelsListed) -> None:
        self._choices = event.choices
        options = self.query_one(OptionList)
        at = options.highlighted
        options.set_options([self._option(number, choice) for number, choice in enumerate(self._choices)])
        opened = (number for number, choice in enumerate(self._choices) if self._is_open(choice))
        options.highlighted = at if at is not None else next(opened, 0)
        self._hint()

    def _is_open(self, choice: Choice) -> bool:
        return choice.path is not None and str(choice.path) == self._open

    def _option(self, number: int, choice: Choice) -> Option:
        mark = "▌" if self._is_open(choice) else "↓" if choice.path is None else " "
        note = self._progress if choice.name == self._downloads.name and self._progress else choice.note(self._room)
        text = Content(f"{mark} {printable(choice.name)}")
        text = Content("\n").join([text, Content(f"  {printable(note)}").stylize("$foreground 60%")])
        return Option(text, id=str(number), disabled=bool(choice.problem))

    def moved(self, event: DownloadMoved) -> None:
        """Show how far a download is."""
        self._progress = download_line(event)
        for number, choice in enumerate(self._choices):
            if choice.name == event.name:
                option = self._option(number, choice)
                self.query_one(OptionList).replace_option_prompt(str(number), option.prompt)
        self._hint()

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self._hint()

    def _hint(self) -> None:
        choice = self._chosen()
        hint = "" if choice is None else HERE if choice.path is not None else ABSENT
        if choice is not None and choice.name == self._downloads.name:
            hint = UNDER_WAY
        self.query_one("#models", Vertical).border_subtitle = hint

    def _chosen(self) -> Choice | None:
        at = self.query_one(OptionList).highlighted
        return self._choices[at] if at is not None and at < len(self._choices) else None

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        choice = self._choices[event.option_index]
        if choice.path is not None:
            self.dismiss(choice)
        elif choice.name != self._downloads.name and not self._downloads.start(choice.name):
            self.notify(f"{self._downloads.name} is still on its way.", severity="warning")
        else:
            self._hint()

    def action_stop(self) -> None:
        """Stop the download."""
        self._downloads.cancel()
