"""Bytes of tokens become text that can be shown: whole characters, and nothing that may turn out to be a stop string.

Knows no tokens and no model.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Text:
    """The text of a reply. `ended` is True when a stop string came; it and what follows is no part of the text.

    Bytes that are no UTF-8 become U+FFFD; a character that is not complete at the end of the reply is left out.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.ended = False
        self._stops = tuple(stops)
        self._open = b""  # the start of a character
        self._held = ""

    def feed(self, data: bytes) -> str:
        """The text that is certain now; the rest is held back until it cannot be the start of a stop string."""
        data = self._open + data
        text, used = codecs.utf_8_decode(data, "replace", False)
        self._open = data[used:]
        if not self._stops:
            return text
        text, self._held = self._held + text, ""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.ended = True
            _, start = min(found)  # the one that is complete first, however the tokens cut the text
            return text[:start]
        certain = len(text) - max(_start_at_end(text, stop) for stop in self._stops)
        self._held = text[certain:]
        return text[:certain]

    def rest(self) -> str:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, ""
        return held


def _start_at_end(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the start of `stop`, which it does not hold."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
