"""Prints a reply while it grows: the answer on stdout, or where else it is to go, and the thought before it on stderr.

Knows no conversation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from localllm.chat.printable import printable
from localllm.runtime.thinking import Parting


class Speaker:
    """Says one reply. `opened` as in `runtime.thinking`; of a reply that goes on, `before` was said already.

    `shown` is what is written of an answer: for programs, to the letter. It goes to `out`, None is stdout.
    """

    def __init__(
        self, opened: str, before: str = "", *, shown: Callable[[str], str] = printable, out: TextIO | None = None
    ) -> None:
        self._shown = shown
        self._out = out or sys.stdout
        self._parting = Parting(opened)
        self._parting.feed(before)
        self._thinking = False

    def say(self, text: str) -> None:
        """Print what came."""
        self._print(*self._parting.feed(text))

    def end(self) -> None:
        """Print what was held back because it could have become a marker."""
        self._print(*self._parting.rest())
        self._answers("\n")

    def _print(self, thought: str, answer: str) -> None:
        if thought:
            sys.stderr.write("" if self._thinking else "(Thinking.)\n")
            sys.stderr.write(printable(thought))
            sys.stderr.flush()
            self._thinking = True
        if answer:
            self._answers("\n(Answering.)\n")
            self._out.write(self._shown(answer))
            self._out.flush()

    def _answers(self, said: str) -> None:
        if self._thinking:
            self._thinking = False
            sys.stderr.write(said)
            sys.stderr.flush()
