"""A line above the prompt that says what the chat was used with. Knows nothing of models."""

from __future__ import annotations

from textual.content import Content
from textual.events import Click
from textual.widgets import Static

from localllm.tui.messages import OwnModelWanted
from localllm.tui.wrapping import printable


class OfferLine(Static):
    """Words, as many lines as they need; hidden while there are none. A click takes the offer."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.display = False

    def show(self, text: str, *, alarming: bool = False) -> None:
        """Say this, or nothing."""
        self.display = bool(text)
        self.set_class(alarming, "-alarming")
        self.update(Content(printable(text)))

    def on_click(self, event: Click) -> None:
        """Textual's."""
        event.stop()
        self.post_message(OwnModelWanted())
