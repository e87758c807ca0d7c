"""The terminal app: keys and wiring.

Knows nothing of what is on the screens.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.screen import Screen

from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.errors import BadSettings
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.tui import background
from localllm.tui.clipboard import copy, native_command
from localllm.tui.loader import OpenModel, Wanted
from localllm.tui.messages import Crashed, Failed
from localllm.tui.no_color import NoColour
from localllm.tui.screens.chat import ChatScreen

STYLES = Path(__file__).with_name("localllm.tcss")
UNCOLOURED = Path(__file__).with_name("no_color.tcss")
"""What tells things apart where there are no colours; over `STYLES`."""

LOOK_SECONDS = 1.0
"""How often the app looks whether its terminal is still there."""


class ChatApp(App[None]):
    """Chats with the model that is `wanted`, which `open_model` loads, kept in `store`.

    Begins with `conversation`, or a new one; `usual` is how models are loaded for chats that have no settings for that,
    where `wanted` is for one that has; with `titles` the model names the chats; `max_tokens` is the limit of each
    reply, 0 for none; `panes` are shown or hidden, of those that F2 and F3 turn. The model loads in the background: the
    app can be used, and written in, from its first picture on.
    """

    TITLE = "localllm"
    CSS_PATH = STYLES
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "interrupt", "Stop", show=False, priority=True),
        Binding("ctrl+q", "quit", "Quit", priority=True),
        # Last, so that it is the first to go where the line of keys is narrow.
        Binding("f2", "memory", "Memory"),
    ]

    def __init__(
        self,
        open_model: OpenModel,
        wanted: Wanted,
        store: Store,
        *,
        sampling: Sampling | None = None,
        system: str = "",
        theme: str | None = None,
        animation: Literal["full", "basic", "none"] | None = None,
        usual: Options | None = None,
        conversation: Conversation | None = None,
        titles: bool = False,
        max_tokens: int = 0,
        panes: Mapping[str, bool] | None = None,
    ) -> None:
        self._uncoloured = [NoColour()] if os.environ.get("NO_COLOR") else None
        if self._uncoloured is None:
            super().__init__()
        else:
            # As a terminal's own colours; Textual would make greys of others, and take the dim text away.
            super().__init__(css_path=[STYLES, UNCOLOURED], ansi_color=True)
        if theme is not None:
            self.theme = self._known_theme(theme)
        if animation is not None:
            self.animation_level = animation
        self.chat = ChatScreen(
            open_model,
            wanted,
            store,
            sampling or Sampling(),
            system=system,
            usual=usual,
            conversation=conversation,
            titles=titles,
        )
        self.chat.behind.dialogue.max_tokens = max_tokens
        self._panes = panes or {}
        self.chat.recall(self._panes)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's: what is done to each line that was drawn."""
        return self._uncoloured or super().get_line_filters()

    def _known_theme(self, name: str) -> str:
        if name not in self.available_themes:
            near = difflib.get_close_matches(name, self.available_themes, n=3)
            raise BadSettings(
                f"There is no theme {name!r}.", hint=f"Nearest: {', '.join(near or sorted(self.available_themes))}."
            )
        return name

    def get_default_screen(self) -> Screen[None]:
        """Textual's: the screen that is there from the start."""
        return self.chat

    async def on_event(self, event: events.Event) -> None:
        """Textual's: what comes from the terminal, before it is handed to what has the focus."""
        # Only here no key that follows in the same read can go to what had the focus before.
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded and self.chat.is_active:
            self.chat.catch(event)
        await super().on_event(event)

    def action_interrupt(self) -> None:
        """Ctrl+C: copy what is selected and stop the reply, in another chat only if nothing is; never quit."""
        selected = self.screen.get_selected_text() or self.chat.selected_in_prompt()
        if selected:
            self.copy_to_clipboard(selected)
            self.screen.clear_selection()
            if self.chat.busy and not self.chat.grows:
                return  # who copies from one chat means no reply in another
        if not self._stop() and not selected:
            self.notify("Ctrl+Q quits.")

    def _stop(self) -> bool:
        from localllm.tui.screens.compare import CompareScreen

        return self.screen.interrupt() if isinstance(self.screen, CompareScreen) else self.chat.replies.stop()

    def copy_to_clipboard(self, text: str) -> None:
        """Textual's: by a program of this desktop where there is one, else by the terminal."""
        command = None if self.is_headless else native_command()
        if command is None:
            super().copy_to_clipboard(text)
            return
        self._clipboard = text

        def job() -> None:
            if not copy(command, text):
                self.call_from_thread(super(ChatApp, self).copy_to_clipboard, text)

        background.start(job, "copy", lambda error: self.chat.post_message(Crashed(error)))

    def on_mount(self) -> None:
        """Textual's: a theme that is chosen is kept for the next start, and the app ends with its terminal."""
        self.theme_changed_signal.subscribe(self, lambda theme: self._keep_theme(theme.name))
        if not self.is_headless:
            self.set_interval(LOOK_SECONDS, self._end_with_terminal)

    def on_app_focus(self) -> None:
        """Textual's: who comes back may have written in another window."""
        self.chat.behind.archive.list()

    def _end_with_terminal(self) -> None:
        # Its signal does not come where it is ignored, as under nohup, and reading from what is gone never waits.
        # Textual cannot end then: it waits for its last words to be written.
        if not os.isatty(sys.__stdin__.fileno() if sys.__stdin__ else 0):
            self.close()
            os._exit(128 + signal.SIGHUP)

    def _keep_theme(self, name: str) -> None:
        def job() -> None:
            from localllm.settings import writing

            try:
                writing.change("theme", name)
            except BadSettings as error:
                self.chat.post_message(Failed(error))

        background.start(job, "keep the theme", lambda error: self.chat.post_message(Crashed(error)))

    def action_memory(self) -> None:
        """Show or hide the memory panel."""
        self.chat.action_toggle_memory()

    def action_help(self) -> None:
        """Show all keys."""
        from localllm.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen())

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Textual's: what the command palette offers."""
        from localllm.tui import palette

        yield from (found for found in super().get_system_commands(screen) if found.title not in palette.NOT_OURS)
        yield SystemCommand("Keys", "Show all keys", self.action_help)
        if screen is self.chat:
            yield from palette.commands(self.chat)

    def close(self) -> None:
        """Free the model and finish writing; call it after `run` returned."""
        self.chat.close()
        self._keep_panes()

    def _keep_panes(self) -> None:
        """At the end, not with each key: the list of chats comes and goes with each chat that is picked."""
        changed = {name: shown for name, shown in self.chat.to_remember.items() if shown != self._panes.get(name)}
        if not changed:
            return
        from localllm.settings import writing

        # Nobody is there any more to hear that the settings cannot be written.
        with suppress(BadSettings):
            for name, shown in changed.items():
                writing.change(f"{name}_pane", None if shown is None else "shown" if shown else "hidden")
