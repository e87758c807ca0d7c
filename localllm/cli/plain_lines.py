"""What a person writes, message by message: in a terminal, with editing and history, or through a pipe.

Knows nothing of what is done with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import IO

PROMPT = "You: "
QUOTES = '"""'
"""A line of these begins a message of several lines, and ends it."""


class Lines:
    """What the person writes, message by message: from a terminal with editing and history, or from a pipe."""

    def __init__(self, source: IO[str], *, interactive: bool) -> None:
        self.interactive = interactive
        self._source = source

    def edit_with(self, prompts: list[str]) -> None:
        """Offer earlier messages for the Up key, and take a paste of several lines as one message."""
        try:
            import readline
        except ImportError:  # Windows
            return
        if os.environ.get("TERM") != "dumb":
            # Python switches it off, for programs that cannot have several lines.
            readline.parse_and_bind("set enable-bracketed-paste on")
        for prompt in prompts:
            readline.add_history(" ".join(prompt.split()))

    def messages(self) -> Iterator[str]:
        """Each message, until the input ends. Lines between quotes are one; Ctrl-C gives up what was begun."""
        while True:
            try:
                line = self._line(PROMPT)
                if line is not None and line.strip() == QUOTES:
                    line = self._block()
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                print("\n(Ctrl-D or /quit ends.)", file=sys.stderr)
                continue
            if line is None:
                return
            if line.strip():
                yield line

    def _block(self) -> str | None:
        lines: list[str] = []
        while (line := self._line("")) is not None and line.strip() != QUOTES:
            lines.append(line)
        return "\n".join(lines) if lines or line is not None else None

    def _line(self, prompt: str) -> str | None:
        if self.interactive:
            try:
                return input(prompt)
            except EOFError:
                print(file=sys.stderr)
                return None
        line = self._source.readline()
        return line.rstrip("\r\n") if line else None
