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
"""What waits for so long after its time goes by itself: the next token may take seconds, or be of another reply."""


class Outlet:
    """Writes events to `out`, a buffered file, in the order in which those of a request are sent; from any thread."""

    def __init__(self, out: BinaryIO, clock: Callable[[], float] = time.monotonic, late: float = LATE_S) -> None:
        self._out, self._clock, self._late = out, clock, late
        self._lock = threading.Lock()
        self._flushed = float("-inf")  # when a piece last went out
        self._gathered: dict[int, list[Piece]] = {}  # by request: those that will be one
        self._held = threading.Event()  # a piece waits, or did a moment ago
        self._patience = late  # how long it may
        self._flushes = 0
        threading.Thread(target=self._send_late, name="late pieces", daemon=True).start()

    def send(self, event: Event, gather_s: float = 0.0) -> None:
        """Send an event. A piece becomes one with those of its request that were sent in the last `gather_s` seconds.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        with self._lock:
            if isinstance(event, Piece):
                now = self._clock()
                if gather_s:
                    self._gathered.setdefault(event.request, []).append(event)
                else:
                    self._out.write(encode(event))
                if now - self._flushed < max(gather_s, GATHER_S):
                    self._patience = gather_s + self._late
                    if not self._held.is_set():
                        self._held.set()
                    return
                self._flushed = now
                self._flush()
            else:
                self._flush(event)

    def _flush(self, last: Event | None = None) -> None:
        self._flushes += 1
        gathered, self._gathered = self._gathered, {}
        for pieces in gathered.values():
            self._out.write(encode(_joined(pieces)))
        if last is not None:
            self._out.write(encode(last))
        self._out.flush()

    def _send_late(self) -> None:
        """Wakes some times a second while pieces follow each other fast, and never else."""
        while True:
            self._held.wait()
            before = self._flushes
            time.sleep(self._patience)
            with self._lock, contextlib.suppress(OSError, ValueError):  # closed or unread: `send` meets that, too
                if self._flushes == before:
                    self._held.clear()
                    self._flush()


def _joined(pieces: list[Piece]) -> Piece:
    """Pieces of one reply as one."""
    if len(pieces) == 1:
        return pieces[0]
    logprobs = tuple(token for piece in pieces for token in piece.logprobs)
    return Piece(pieces[0].request, "".join(piece.text for piece in pieces), logprobs, sum(p.count for p in pieces))
