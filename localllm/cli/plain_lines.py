"""What a person writes, message by message: in a terminal, with editing and history, or through a pipe.

Knows nothing of what is done with it.
"""

from __future__ import annotations

import contextlib
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
        self._in_block = False

    def edit_with(self, prompts: list[str]) -> None:
        """Offer earlier messages for Up and completions for Tab; take a paste of several lines as one message."""
        try:
            import readline
        except ImportError:  # Windows
            return
        from localllm.cli.plain_completing import BREAKS, completions

        found: list[str] = []

        def complete(_: str, number: int) -> str | None:
            """The completion of this number, as readline asks for one after the other; None behind the last."""
            if number == 0:
                line = readline.get_line_buffer()[: readline.get_endidx()]
                found[:] = completions(line, readline.get_begidx(), first=not self._in_block)
            return found[number] if number < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(BREAKS)
        # Macs have another library in place of readline, which names what keys do otherwise.
        readline.parse_and_bind("bind ^I rl_complete" if "libedit" in f"{readline.__doc__}" else "tab: complete")
        readline.parse_and_bind("set completion-ignore-case on")
        if os.environ.get("TERM") != "dumb":
            # Python switches it off, for programs that cannot have several lines.
            readline.parse_and_bind("set enable-bracketed-paste on")
        for prompt in prompts:
            with contextlib.suppress(ValueError):  # it holds a NUL, or letters that the locale lacks
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
        self._in_block = True
        try:
            while (line := self._line("")) is not None and line.strip() != QUOTES:
                lines.append(line)
        finally:
            self._in_block = False
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
