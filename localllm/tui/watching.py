"""The memory while it is watched: samples are remembered and shown, and the machine is not to swap unnoticed.

Knows the screen only as what shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localllm.runtime.options import Options
from localllm.tui.messages import Sampled
from localllm.tui.screens.memory import MemoryScreen
from localllm.tui.vitals import History, Machine, SwapWatch
from localllm.tui.widgets.memory_panel import MemoryPanel

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Watching:
    """Over one screen. All methods are for the app's thread."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._swap_watch = SwapWatch()
        self.history = History()
        self.last: Sampled | None = None
        """The latest sample; None before there was one."""

    @property
    def is_seen(self) -> bool:
        """Whether somebody looks at the memory."""
        return self._screen.query_one(MemoryPanel).display or isinstance(self._screen.app.screen, MemoryScreen)

    def sampled(self, event: Sampled) -> None:
        """Show a sample wherever memory is shown, and remember it."""
        self.last = event
        self.history.add(event.memory, event.machine)
        if isinstance(self._screen.app.screen, MemoryScreen):
            self._screen.app.screen.show(event)
        self._screen.query_one(MemoryPanel).show(event.memory)
        self._screen.replies.context_used = event.context_used
        if not self._screen.busy:  # else it is drawn with the reply, in one go
            self._screen.refresh_status()

    def watch(self, machine: Machine) -> None:
        """Warn before the machine swaps."""
        warning = self._swap_watch.look(machine)
        if warning:
            self._screen.notify(f"{warning} F9 shows where it goes.", severity="warning", timeout=20)

    def show_all(self) -> None:
        """Show where the memory goes on a whole screen; it may end with options to load the model with."""
        self._screen.app.push_screen(MemoryScreen(self._screen, self.history), self._load_so)
        self._screen.panes_changed()

    def _load_so(self, options: Options | None) -> None:
        self._screen.panes_changed()
        if options is not None and self._screen.may_turn():
            self._screen.loaded.load_with(options)
