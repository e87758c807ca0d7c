"""The models on this machine, in the catalogue and on the hub, to pick from or to download.

Shows choices; its result is the one to load. Downloads go on when it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static

from localllm.errors import LocalLLMError
from localllm.tui.downloads import Downloads
from localllm.tui.hub_search import HubSearch
from localllm.tui.messages import DownloadEnded, DownloadMoved, HubOffered, HubSearched, ModelsListed
from localllm.tui.models import Choice
from localllm.tui.picking import Row, Search, View, asked, hint, rows
from localllm.tui.widgets.model_line import ModelLine, drawn
from localllm.tui.wording import download_line
from localllm.tui.wrapping import printable


class ModelsScreen(ModalScreen[Choice | None]):
    """Letters filter the list; Enter loads what is here, and asks before it downloads what is not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back"),
        Binding("f8", "dismiss", "Back"),
        Binding("f3", "search", "Search the hub"),
        Binding("up", "move('cursor_up')", show=False),
        Binding("down", "move('cursor_down')", show=False),
        Binding("pageup", "move('page_up')", show=False),
        Binding("pagedown", "move('page_down')", show=False),
        Binding("tab", "jump(1)", "The next repo", show=False),
        Binding("shift+tab", "jump(-1)", "The repo before", show=False),
        # Before the filter, which they edit where no download is chosen.
        Binding("ctrl+x,delete", "stop", "Stop the download", priority=True),
    ]

    def __init__(
        self, downloads: Downloads, open_name: str, room: int | None, crashed: Callable[[BaseException], object]
    ) -> None:
        super().__init__()
        self._downloads = downloads
        self._hub = HubSearch(self.post_message, crashed)
        self._choices: Sequence[Choice] | None = None
        self._search: Search | None = None
        self._leads_to_hub = False
        self._rows: list[Row] = []
        self._progress, self._moved = "on its way…", 0
        self._open, self._room = open_name, room
        self._arrived: dict[str, Path] = {}
        self._kept: dict[str, int] = {}
        self._asked_for = ""

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Vertical(id="models") as box:
            box.border_title = "Models"
            box.border_subtitle = "looking for models…"
            yield Input(placeholder="Filter, or search the hub: F3", compact=True, id="models-filter")
            choices = OptionList(id="models-choices")
            choices.can_focus = False
            yield choices
            yield Static(id="models-note")

    def on_mount(self) -> None:
        """Textual's."""
        self._say("")

    def on_unmount(self) -> None:
        """Textual's."""
        self._hub.cancel()

    @property
    def _words(self) -> str:
        return " ".join(self.query_one("#models-filter", Input).value.split())

    @property
    def _is_searching(self) -> bool:
        return self._search is not None and self._search.is_waiting

    def _listed_rows(self) -> list[Row]:
        view = View(self._open, self._room, self._arrived, self._kept, self._downloads.name, self._progress)
        return rows(self._choices or (), self._words, self._search, view)

    @on(ModelsListed)
    def _listed(self, event: ModelsListed) -> None:
        self._choices = event.choices
        self._show()

    @on(Input.Changed)
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        if self._search is not None and self._search.words != self._words:
            self._hub.cancel()
            self._search = None
        self._say("")
        self._show(anew=True)

    def _show(self, *, anew: bool = False) -> None:
        """List what there is. The row that was chosen stays so, unless the list is for other words."""
        options = self.query_one(OptionList)
        chosen = None if anew else self._chosen()
        top = options.scroll_y
        self._rows = self._listed_rows()
        options.set_options([ModelLine(row) for row in self._rows])
        options.highlighted = self._index_of(chosen)
        if not anew:
            options.scroll_to(y=top, animate=False, force=True)
            # After the layout, which a note below may change.
            self.call_after_refresh(options.scroll_to_highlight)
        self._hint()

    def _index_of(self, chosen: Row | None) -> int | None:
        numbered = [(number, row) for number, row in enumerate(self._rows) if not row.only_tells]
        same = (number for number, row in numbered if chosen is not None and row.key == chosen.key)
        opened = (number for number, row in numbered if row.choice and str(row.choice.path) == self._open)
        first = next((number for number, _ in numbered), None)
        return next(same, first if self._words else next(opened, first))

    def moved(self, event: DownloadMoved) -> None:
        """Show how far a download is."""
        self._progress, self._moved = download_line(event), 0 if event.converts else event.done
        now = {row.key: row for row in self._listed_rows()}
        for number, row in enumerate(self._rows):
            if row.choice is not None and row.choice.name == event.name and row.key in now:
                self._rows[number] = now[row.key]
                self.query_one(OptionList).replace_option_prompt_at_index(number, drawn(now[row.key]))
        self._hint()

    def ended(self, event: DownloadEnded) -> None:
        """A download ended: what is here can be loaded now, and why it is not is said."""
        if event.path is not None:
            self._arrived[event.name] = event.path
            self._say(f"{event.name} is on this machine now: Enter loads it.")
        elif event.error is not None:
            if self._moved:
                self._kept[event.name] = self._moved
            self._say_error(event.error)
        self._show()

    def action_search(self) -> None:
        """Search the hub for what is in the filter."""
        words = self._words
        if not words:
            self._say("Write what to search the hub for.")
            return
        self._say("")
        self._search = Search(words)
        self._leads_to_hub = True
        self._hub.start(words)
        self._show()

    @on(HubSearched)
    def _searched(self, event: HubSearched) -> None:
        search = self._search
        if search is None or search.words != event.words:
            return
        search.error = event.error
        if event.error is not None:
            self._say_error(event.error)
        else:
            search.hits = event.hits
        self._show()

    @on(HubOffered)
    def _offered(self, event: HubOffered) -> None:
        if self._search is not None and self._search.words == event.words:
            self._search.offers[event.repo] = event.error or event.offers
            self._show()
            if self._leads_to_hub:
                self._lead_to_hub()

    def _lead_to_hub(self) -> None:
        """Show what the hub has and choose its first model, until the person turns to another row."""
        options = self.query_one(OptionList)
        of_hub = [number for number, row in enumerate(self._rows) if row.of_hub]
        if not of_hub:  # the filter says something else already, which is heard of next
            return
        options.highlighted = next((number for number in of_hub if not self._rows[number].only_tells), None)
        above = sum(1 + bool(row.note) for row in self._rows[: of_hub[0]])
        options.scroll_to(y=above, animate=False, force=True)

    def action_back(self) -> None:
        """End a search that is under way, else go back."""
        if self._is_searching:
            self._hub.cancel()
            self._search = None
            self._show()
        else:
            self.dismiss(None)

    def action_move(self, how: str) -> None:
        """Choose another row."""
        self._leads_to_hub = False
        getattr(self.query_one(OptionList), f"action_{how}")()

    def action_jump(self, step: int) -> None:
        """Choose the first model of the next repo, or of the one before; those here count as one."""
        options = self.query_one(OptionList)
        firsts = [
            number
            for number, row in enumerate(self._rows)
            if not row.only_tells and (number == 0 or self._rows[number - 1].only_tells)
        ]
        at = options.highlighted if options.highlighted is not None else -1
        further = [number for number in firsts if (number > at if step > 0 else number < at)]
        self._leads_to_hub = False
        if further:
            options.highlighted = further[0] if step > 0 else further[-1]

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        row = self._chosen()
        if self._asked_for and (row is None or row.choice is None or row.choice.name != self._asked_for):
            self._say("")
        self._hint()

    def _hint(self) -> None:
        told = hint(self._chosen(), self._words, self._search, self._downloads.name)
        self.query_one("#models", Vertical).border_subtitle = told

    def _chosen(self) -> Row | None:
        at = self.query_one(OptionList).highlighted
        return self._rows[at] if at is not None and at < len(self._rows) else None

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.query_one(OptionList).action_select()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        assert isinstance(event.option, ModelLine)
        row = event.option.row
        if row.searches:
            self.action_search()
        elif row.choice is not None:
            self._take(row.choice)

    def _take(self, choice: Choice) -> None:
        if choice.path is not None:
            self.dismiss(choice)
        elif choice.name == self._downloads.name:
            return
        elif choice.name not in (self._asked_for, *self._kept) and not choice.arrived:
            # One key too many in a list must not fetch gigabytes.
            self._say(asked(choice), asks_for=choice.name)
        elif self._downloads.start(choice.name):
            self._say("")
            self._progress, self._moved = "asking for it…", 0
            self._show()
        else:
            self._say(f"{self._downloads.name} is still on its way.", wrong=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: the key that stops a download edits the filter where none is chosen."""
        if action == "stop":
            row = self._chosen()
            return row is not None and row.choice is not None and row.choice.name == self._downloads.name
        return super().check_action(action, parameters)

    def action_stop(self) -> None:
        """Stop the download. It may wait for the hub, and end only then."""
        self._downloads.cancel()
        self._progress = "stopping…"
        self._show()

    def _say_error(self, error: LocalLLMError) -> None:
        self._say(" · ".join(f"{error}".splitlines()), wrong=True)

    def _say(self, text: str, *, wrong: bool = False, asks_for: str = "") -> None:
        """Show a text in place of the one before: a question that is no longer seen is not asked any more."""
        self._asked_for = asks_for
        note = self.query_one("#models-note", Static)
        note.display = bool(text)
        note.set_class(wrong, "-wrong")
        note.update(Content(printable(text)))
