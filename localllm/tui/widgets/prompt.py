"""Where the person writes: several lines, with what was written before a key away.

Knows nothing of what becomes of a message.
"""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.widgets import TextArea

from localllm.tui.messages import PromptSent


class Prompt(TextArea):
    """Enter sends, Ctrl+J or Shift+Enter breaks the line, Up and Down at the edges walk through earlier messages."""

    # Not bindings: those are found before the letters that were typed ahead of them have arrived here.
    SEND: ClassVar[set[str]] = {"enter"}
    BREAK: ClassVar[set[str]] = {"ctrl+j", "shift+enter", "alt+enter"}

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(
            id=id,
            placeholder="Write a message",
            highlight_cursor_line=False,
            tab_behavior="focus",
        )
        # A cursor that blinks repaints twice a second for as long as the app is open.
        self.cursor_blink = False
        self._history: list[str] = []
        self._at = 0
        self._draft = ""

    def remember(self, prompts: list[str]) -> None:
        """Put what was written in earlier chats before what was written in this one."""
        self._history = [*prompts, *self._history]
        self._at = len(self._history)

    def on_key(self, event: events.Key) -> None:
        """Textual's, before the text area sees the key."""
        if event.key in self.SEND | self.BREAK:
            event.stop()
            event.prevent_default()
            if event.key in self.BREAK:
                self.insert("\n")
                self.scroll_cursor_visible()
            elif self.text.strip():
                self._send(self.text.strip("\n"))

    def _send(self, text: str) -> None:
        # Emptied here and not when the message is taken: what is typed until then belongs to the next one.
        if not self._history or self._history[-1] != text:
            self._history.append(text)
        self._at, self._draft = len(self._history), ""
        self.clear()
        self.post_message(PromptSent(text))

    def put_back(self, text: str) -> None:
        """A message was not taken: it is to be sent again, before what was typed since."""
        self.text = text + self.text
        self.move_cursor(self.document.end)

    def action_cursor_up(self, select: bool = False) -> None:
        """Up; on the first line, the message before."""
        if select or not self.navigator.is_first_wrapped_line(self.cursor_location) or not self._walk(-1):
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        """Down; on the last line, the message after."""
        if select or not self.navigator.is_last_wrapped_line(self.cursor_location) or not self._walk(1):
            super().action_cursor_down(select)

    def _walk(self, step: int) -> bool:
        at = self._at + step
        if not 0 <= at <= len(self._history):
            return False
        if self._at == len(self._history):
            self._draft = self.text
        self._at = at
        self.text = self._draft if at == len(self._history) else self._history[at]
        self.move_cursor(self.document.end)
        return True

    def on_paste(self, event: events.Paste) -> None:
        """Textual's, before the text area inserts it: terminals send a pasted line end as a carriage return."""
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")
