"""A screen of three panes: the chats, the conversation, the memory; each where there is room for it, or by a key.

Knows nothing of what is in them.
"""

from __future__ import annotations

from textual.screen import Screen

from localllm.tui.widgets.sidebar import Sidebar
from localllm.tui.widgets.talk import Talk

ROOM_FOR = {"chats": 132, "memory": 92}
"""From how many columns on a panel has its own place; below that it is hidden, and shown over the conversation."""


class Panes(Screen[None]):
    """Panes that come and go with the width of the terminal, and by keys."""

    def __init__(self) -> None:
        super().__init__()
        self._wanted: dict[str, bool] = {}

    def on_resize(self) -> None:
        """Textual's: panels come and go with the width."""
        self._arrange()

    def _arrange(self) -> None:
        for name, room in ROOM_FOR.items():
            panel = self.query_one(f"#{name}")
            fits = self.app.size.width >= room
            panel.set_class(not fits, "-over")
            panel.display = self._wanted.get(name, fits)
        self.panes_changed()
        self.refresh_bindings()

    def action_close_panels(self) -> None:
        """Take panels away that lie over the conversation."""
        self._wanted.clear()
        self._arrange()

    def _toggle(self, name: str) -> bool:
        self._wanted[name] = not self.query_one(f"#{name}").display
        self._arrange()
        return self._wanted[name]

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

    def action_toggle_chats(self) -> None:
        """Show or hide the list of chats; it has the focus when it is shown."""
        if self._toggle("chats"):
            self.sidebar.focus_list()
        else:
            self.sidebar.end_search()
            self.talk.prompt.focus()

    def leave_chats(self) -> None:
        """The person turns from the list to the conversation."""
        self.sidebar.end_search()
        self.talk.prompt.focus()
        self.action_close_panels()

    def show_chats(self) -> None:
        """Show the list of chats."""
        self._wanted["chats"] = True
        self._arrange()

    def action_toggle_memory(self) -> None:
        """Show or hide the memory panel."""
        self._toggle("memory")

    def action_scroll(self, action: str) -> None:
        """Scroll the conversation from wherever the focus is; to its edges only while nothing is being written."""
        prompt = self.talk.prompt
        if action in ("scroll_home", "scroll_end") and prompt.has_focus and prompt.text:
            prompt.go_to_edge(end=action == "scroll_end")
            return
        getattr(self.talk.transcript, f"action_{action}")()

    def panes_changed(self) -> None:
        """Panes were shown or hidden."""
