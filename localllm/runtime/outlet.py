"""How events leave the child process: at once, but for pieces that follow each other faster than anybody reads.

Every write wakes threads of the parent, and where all cores compute each of them stops the one that it wakes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import BinaryIO

from localllm.runtime.protocol import Event, Piece, encode

GATHER_S = 0.03
"""Pieces are written at most so often: what is said meanwhile goes with the next one, or with what ends the reply."""


class Outlet:
    """Writes events to `out`, a buffered file, in the order in which they are sent; from any thread."""

    def __init__(self, out: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._lock = threading.Lock()
        self._flushed = float("-inf")  # when a piece last went out

    def send(self, event: Event) -> None:
        """Send an event.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        with self._lock:
            self._out.write(encode(event))
            if isinstance(event, Piece):
                now = self._clock()
                if now - self._flushed < GATHER_S:
                    return
                self._flushed = now
            self._out.flush()
