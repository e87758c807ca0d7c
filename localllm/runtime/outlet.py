"""How events leave the child process: at once, but for pieces that follow each other faster than anybody reads.

Every write wakes threads of the parent, and where all cores compute each of them stops the one that it wakes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import BinaryIO

from localllm.runtime.protocol import Event, Piece, encode

GATHER_S = 0.03
"""Pieces are written at most so often: what is said meanwhile goes with the next event."""

LATE_S = 0.1
"""What still waits then goes by itself: the next token may take seconds, or be that of another reply."""


class Outlet:
    """Writes events to `out`, a buffered file, in the order in which they are sent; from any thread."""

    def __init__(self, out: BinaryIO, clock: Callable[[], float] = time.monotonic, late: float = LATE_S) -> None:
        self._out, self._clock, self._late = out, clock, late
        self._lock = threading.Lock()
        self._flushed = float("-inf")  # when a piece last went out
        self._held = threading.Event()  # a piece waits, or did a moment ago
        threading.Thread(target=self._send_late, name="late pieces", daemon=True).start()

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
                    if not self._held.is_set():
                        self._held.set()
                    return
                self._flushed = now
            self._out.flush()

    def _send_late(self) -> None:
        """Wakes ten times a second while pieces follow each other fast, and never else."""
        while True:
            self._held.wait()
            time.sleep(self._late)
            with self._lock, contextlib.suppress(OSError, ValueError):  # closed or unread: `send` meets that, too
                self._held.clear()
                self._out.flush()
