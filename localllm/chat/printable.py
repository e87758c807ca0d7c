"""Text that a terminal may be given, and that a disk can hold. Knows nothing of where it comes from."""

from __future__ import annotations

from localllm.errors import BadText

# A terminal obeys control characters, so none of what a model or a paste holds may reach it. Carriage returns go.
_CONTROLS: dict[int, str | None] = {
    code: "�" for code in [*range(0x20), *range(0x7F, 0xA0)] if code not in (0x09, 0x0A)
} | {0x0D: None}


def printable(text: str) -> str:
    """`text` without characters that a terminal would obey; it works piece by piece as on the whole."""
    return text.translate(_CONTROLS)


def check(text: str) -> None:
    """Refuse text that no file can hold.

    Raises:
        BadText: it has half of a surrogate pair, as Python makes of bytes that are no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise bad_text(error) from None


def bad_text(error: UnicodeEncodeError) -> BadText:
    """What is wrong with a text that cannot be encoded."""
    return BadText(
        f"The text is no valid UTF-8, at character {error.start + 1:,}, and cannot be kept.",
        hint="Was it read in another encoding? `iconv -f latin1 -t utf-8` turns one such into UTF-8.",
    )
