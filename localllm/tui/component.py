"""What the stylesheet says about a part of a widget, as a style to lay over others."""

from __future__ import annotations

from rich.style import Style
from textual.widget import Widget


def component_style(widget: Widget, name: str) -> Style:
    """The style of a component class: only what its rules set, with see-through colours mixed into the background.

    Textual's own partial style leaves see-through colours opaque, and its full style always has a background.
    """
    styles = widget.get_component_styles(name)
    full = widget.get_component_rich_style(name)
    colours = Style(
        color=full.color if styles.has_rule("color") else None,
        bgcolor=full.bgcolor if styles.has_rule("background") else None,
    )
    return colours + styles.text_style
