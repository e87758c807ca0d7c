"""A screen of three panes: the chats, the conversation, the memory; each where there is room for it, or by a key.

Knows nothing of what is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, TextArea

from localllm.tui.widgets.sidebar import Sidebar
from localllm.tui.widgets.talk import Talk
from localllm.tui.widgets.transcript import Transcript

USUAL_FROM = {"chats": 132, "memory": 92}
"""From how many columns on a pane is there without being asked for."""

BOTH_FROM = 106
"""Below so many columns one pane leaves when the other comes: 32 and 34 are the panes', 40 the conversation's."""

BESIDE_FROM = 74
"""Below so many columns a pane has the place of the conversation, above the prompt."""


class Panes(Screen[None]):
    """Panes that come and go with the width of the terminal, and by keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "scroll('page_up')", show=False, priority=True),
        Binding("pagedown", "scroll('page_down')", show=False, priority=True),
        Binding("ctrl+home", "scroll('scroll_home')", show=False, priority=True),
        Binding("ctrl+end", "scroll('scroll_end')", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._wanted: dict[str, bool] = {}
        """Which panes the person asked to see, or not to see; the last of them is what was asked last."""
        self._recalled: dict[str, bool] = {}
        self._kept: set[str] = set()
        """The panes that were recalled as shown: beside the conversation, nothing but a key hides them."""
        self.to_remember: dict[str, bool | None] = {}
        """Of the panes that the person turned on or off beside the conversation, how they are; None is as usual."""

    def recall(self, wanted: Mapping[str, bool]) -> None:
        """Begin with these panes shown or hidden; one that would be in the place of the conversation stays away."""
        self._recalled = dict(wanted)
        self._kept = {name for name, shown in wanted.items() if shown}

    def on_resize(self) -> None:
        """Textual's: panes come and go with the width."""
        wide = self.app.size.width >= BESIDE_FROM
        self._wanted |= {name: shown for name, shown in self._recalled.items() if wide or not shown}
        self._recalled.clear()
        self._arrange()

    def _arrange(self) -> None:
        shown = self._shown()
        is_drawer = self.app.size.width < BESIDE_FROM
        for name in USUAL_FROM:
            self._pane(name).display = name in shown
        self.query_one("#body").set_class(is_drawer, "-drawer")
        self.talk.cover(covered=is_drawer and bool(shown))
        self.panes_changed()
        self.refresh_bindings()

    def _shown(self) -> list[str]:
        """The panes that there is room for: what was asked for comes first, the latest before the others."""
        asked = [name for name in reversed(self._wanted) if self._wanted[name]]
        usual = [name for name in USUAL_FROM if self._is_usual(name) and name not in self._wanted]
        return [*asked, *usual][: 2 if self.app.size.width >= BOTH_FROM else 1]

    def _is_usual(self, name: str) -> bool:
        return self.app.size.width >= (BESIDE_FROM if name in self._kept else USUAL_FROM[name])

    def _pane(self, name: str) -> Widget:
        return self.query_one(f"#{name}")

    def _want(self, name: str, *, shown: bool) -> None:
        self._wanted.pop(name, None)
        if not shown:
            self._kept.discard(name)
        if shown or self._is_usual(name):
            self._wanted[name] = shown
        self._remember(name, shown if shown != (self.app.size.width >= USUAL_FROM[name]) else None)
        self._arrange()

    def _remember(self, name: str, shown: bool | None) -> None:
        if self.app.size.width >= BESIDE_FROM:
            self.to_remember[name] = shown

    def _toggle(self, name: str) -> bool:
        shown = not self._pane(name).display
        self._want(name, shown=shown)
        return shown

    def _leave(self, *names: str) -> None:
        """Nobody asks for these panes any more; what had to leave for them is back."""
        stay = self._kept if self.app.size.width >= BESIDE_FROM else ()
        left = [name for name in names if self._wanted.get(name) and name not in stay]
        for name in left:
            del self._wanted[name]
            self._remember(name, None)
        self._arrange()

    @property
    def visited(self) -> list[str]:
        """The panes that would not be there had nobody asked for them, the latest last."""
        return [name for name, shown in self._wanted.items() if shown and not self._is_usual(name)]

    def action_close_panels(self) -> None:
        """Take away the pane that was asked for last."""
        if self.visited[-1:] == ["chats"]:
            self.leave_chats()
        else:
            self._leave(*self.visited[-1:])

    def uncover(self) -> None:
        """The conversation is to be seen: panes in its place leave."""
        if self.talk.is_covered:
            self._leave(*USUAL_FROM)

    @property
    def talk(self) -> Talk:
        """The conversation and the prompt."""
        return self.query_one(Talk)

    def selected_in_prompt(self) -> str:
        """What is selected where the person writes."""
        prompt = self.talk.prompt
        return prompt.selected_text if prompt.has_focus else ""

    @property
    def sidebar(self) -> Sidebar:
        """The chats on the left."""
        return self.query_one(Sidebar)

    def catch(self, event: events.Key | events.Paste) -> None:
        """Text comes to where none can be written: it is for the prompt, which has the focus from now on.

        The letters that mean something in the list of chats stay there.
        """
        focused = self.focused
        if isinstance(focused, Input | TextArea):
            return
        if isinstance(event, events.Key):
            is_order = event.key in self.active_bindings and not isinstance(focused, Transcript)
            if is_order or not event.is_printable:
                return
        self.set_focus(self.talk.prompt)

    def action_write(self) -> None:
        """Back to writing."""
        self.set_focus(self.talk.prompt)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: which keys mean something now."""
        if action == "write":
            return not isinstance(self.focused, Input | TextArea)
        return super().check_action(action, parameters)

    def action_toggle_chats(self) -> None:
        """Show or hide the list of chats; it has the focus when it is shown."""
        if self._toggle("chats"):
            self.sidebar.focus_list()
        else:
            self.sidebar.end_search()
            self.set_focus(self.talk.prompt)

    def leave_chats(self) -> None:
        """The person turns from the list to the conversation."""
        self.sidebar.end_search()
        self.set_focus(self.talk.prompt)
        self._leave("chats")

    def show_chats(self) -> None:
        """Show the list of chats."""
        self._want("chats", shown=True)

    def action_toggle_memory(self) -> None:
        """Show or hide the memory panel. Chats that leave for it do not come back: they were there to pick from."""
        listed = self.sidebar.display
        self._toggle("memory")
        if listed and not self.sidebar.display:
            self.leave_chats()

    def action_scroll(self, action: str) -> None:
        """Scroll the conversation from wherever the focus is; to its edges from the edge of what is being written."""
        prompt = self.talk.prompt
        is_edge = action in ("scroll_home", "scroll_end")
        if is_edge and prompt.has_focus and prompt.go_to_edge(end=action == "scroll_end"):
            return
        getattr(self.talk.transcript, f"action_{action}")()

    def panes_changed(self) -> None:
        """Panes were shown or hidden."""
