"""Text that a terminal may be given. Knows nothing of where it comes from."""

from __future__ import annotations

# A terminal obeys control characters, so none of what a model or a paste holds may reach it. Carriage returns go.
_CONTROLS: dict[int, str | None] = {
    code: "�" for code in [*range(0x20), *range(0x7F, 0xA0)] if code not in (0x09, 0x0A)
} | {0x0D: None}


def printable(text: str) -> str:
    """`text` without characters that a terminal would obey; it works piece by piece as on the whole."""
    return text.translate(_CONTROLS)
