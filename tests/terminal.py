"""How tests talk to a program in a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable


def drain(terminal: int, into: bytearray) -> None:
    """Read what a program draws; it would wait otherwise."""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 1 << 16):
            into += data


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
