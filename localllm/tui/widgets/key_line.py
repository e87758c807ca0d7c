"""The last line: the keys that mean something now. What does not fit is left out from the right.

One widget that draws one line: Textual's footer is a widget per key, and takes long to change while a reply streams.
"""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.events import Click
from textual.screen import Screen
from textual.widget import Widget

from localllm.tui.component import component_style

GAP = "  "


class KeyLine(Widget):
    """Keys and what they do; they can be clicked."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-line--key"}

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._places: list[tuple[int, str]] = []

    def on_mount(self) -> None:
        """Textual's."""
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _screen: Screen[object]) -> None:
        self.refresh()

    def render(self) -> Text:
        """Textual's: the line."""
        key_style = component_style(self, "key-line--key")
        line = Text(no_wrap=True)
        self._places.clear()
        for _, binding, enabled, _ in self.screen.active_bindings.values():
            if not (binding.show and enabled):
                continue
            part = Text(GAP if line else "").append(self.app.get_key_display(binding), key_style)
            part.append(f" {binding.description}")
            if line.cell_len + part.cell_len > self.size.width:
                break
            line.append_text(part)
            self._places.append((line.cell_len, binding.key))
        return line

    def on_click(self, event: Click) -> None:
        """Textual's: a click on a key is that key."""
        at = event.x - self.styles.padding.left
        key = next((key for end, key in self._places if at < end), None)
        if key is not None:
            self.app.simulate_key(key)
