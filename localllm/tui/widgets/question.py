"""Where the person writes what both models are asked. Knows nothing of them."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import TextArea

from localllm.tui.widgets.prompt import Prompt


class Question(TextArea):
    """Enter asks, Ctrl+J or Shift+Enter breaks the line; the text stays, to be asked again."""

    class Asked(Message):
        """The person asks this."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, text: str, *, id: str | None = None) -> None:
        super().__init__(
            text, id=id, placeholder="What both are asked", highlight_cursor_line=False, tab_behavior="focus"
        )
        self.cursor_blink = False  # it would repaint twice a second

    def on_mount(self) -> None:
        """Textual's."""
        self.move_cursor(self.document.end)

    def on_key(self, event: events.Key) -> None:
        """Textual's, before the text area sees the key."""
        if event.key not in Prompt.SEND | Prompt.BREAK:
            return
        event.stop()
        event.prevent_default()
        if event.key in Prompt.BREAK:
            self.insert("\n")
            self.scroll_cursor_visible()
        else:
            self.post_message(self.Asked(self.text.strip("\n")))
