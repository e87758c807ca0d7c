"""All keys on one page.

Knows nothing of what they do.
"""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Writing",
        (
            ("Enter", "send the message"),
            ("Ctrl+J, Shift+Enter", "break the line"),
            ("Up, Down", "earlier messages, from the first and last line"),
            ("/", "commands; Tab completes, Enter runs; // begins a message with a slash"),
            ("@path, /attach", "put a file into the message; dragging one in does too"),
        ),
    ),
    (
        "The reply",
        (
            ("Esc, Ctrl+C", "stop it; what is there stays"),
            ("Ctrl+G", "go on with a reply that ended early"),
            ("Ctrl+R", "answer again; the old reply is kept"),
            ("Alt+Left, Alt+Right", "the version before, the one after; or click ‹2/3›"),
            ("F4", "edit the message that was jumped to, or the last question; the old one is kept"),
        ),
    ),
    (
        "Reading",
        (
            ("Alt+Up, Alt+Down", "the message before, the message after; it is the one that keys are about"),
            ("Ctrl+O", "copy that message, or the last reply; /copy code copies a block of code"),
            ("Ctrl+T", "fold or unfold its thought or its files; a click does too"),
            ("Ctrl+F", "find in this chat: Enter and Up go back, Down goes on, Esc ends"),
        ),
    ),
    (
        "Chats",
        (
            ("Ctrl+N", "a new chat"),
            ("F3", "the list of chats; Enter opens, Delete deletes, P pins, R renames"),
            ("/ in the list", "search titles and texts; Esc ends it"),
            ("Ctrl+Z in the list", "undo the deletion"),
        ),
    ),
    (
        "The window",
        (
            ("PageUp, PageDown", "scroll"),
            ("Ctrl+Home, Ctrl+End", "the first and the last message; from inside a text, its edges first"),
            ("Mouse, then Ctrl+C", "select and copy"),
            ("F2, F9", "memory beside the chat; all of it, and what other settings would take"),
            ("F5", "load the model again"),
            ("F7", "settings of this chat, and presets"),
            ("Enter, Esc", "where a chat used another model: load it; keep the one that is loaded"),
            ("F8", "models: load another; download one beside the chat, F3 there searches the hub"),
            ("F12, /compare", "one prompt to two models, side by side"),
            ("F6", "make room in the context"),
            ("Ctrl+P", "commands and themes"),
            ("Ctrl+Q", "quit"),
        ),
    ),
)


class HelpScreen(ModalScreen[None]):
    """The keys; Esc closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """Textual's."""
        with VerticalScroll(id="help") as page:
            page.border_title = "Keys"
            yield Static(self._table())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for heading, keys in KEYS:
            if table.row_count:
                table.add_row()
            table.add_row(Text(heading, "bold"))
            for key, meaning in keys:
                table.add_row(f"  {key}", meaning)
        return table
