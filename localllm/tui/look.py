"""The styles of the transcript, as values: the stylesheet decides them, the renderers only name them.

Knows nothing of widgets.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rich.style import Style

PLAIN = Style()


@dataclass(frozen=True)
class Look:
    """One style per thing that is told apart. A style holds only what differs from `base`, apart from the blocks."""

    base: Style = PLAIN
    muted: Style = PLAIN
    user: Style = PLAIN
    user_bar: Style = PLAIN
    heading: Style = PLAIN
    subheading: Style = PLAIN
    marker: Style = PLAIN
    code: Style = PLAIN
    code_block: Style = PLAIN
    link: Style = PLAIN
    quote: Style = PLAIN
    rule: Style = PLAIN
    warning: Style = PLAIN
    error: Style = PLAIN
    error_bar: Style = PLAIN
    keyword: Style = PLAIN
    name: Style = PLAIN
    string: Style = PLAIN
    number: Style = PLAIN
    comment: Style = PLAIN


NAMES = tuple(field.name for field in fields(Look))
