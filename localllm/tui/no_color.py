"""Where NO_COLOR is set: no colour reaches the terminal, and what is chosen is reversed.

What else tells things apart then is in `no_color.tcss`.
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

CHOSEN = RichColor.parse("white")
"""The background of what is chosen. Textual loses `text-style: reverse` in its lists, but not a background."""


class NoColour(LineFilter):
    """Takes the colours from what was drawn."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Textual's: a line without its colours."""
        return [Segment(text, style and _uncoloured(style), control) for text, style, control in segments]


@lru_cache(1024)
def _uncoloured(style: Style) -> Style:
    chosen = style.bgcolor is not None and style.bgcolor.number == CHOSEN.number
    # Rich's leaves out what a click there means.
    return style.without_color + Style(meta=style.meta or None, reverse=True if chosen else None)
