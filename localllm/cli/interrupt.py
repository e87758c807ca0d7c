"""Ctrl-C that is heard at once, also while the main thread is inside llama.cpp.

And SIGTERM and SIGHUP that end a block like Ctrl-C does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def on_interrupt(action: Callable[[], object]) -> Iterator[threading.Event]:
    """Call `action` as soon as Ctrl-C arrives, instead of `KeyboardInterrupt`; yields an event that is set then.

    For the main thread. Python runs its handlers when the running C function returns, and evaluating a long prompt is
    one function that takes many seconds. The operating system's handler writes to a pipe at once, and a thread waits
    there.
    """
    interrupted = threading.Event()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield interrupted  # whoever started us does not want Ctrl-C to reach us
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    def wait() -> None:
        while number := os.read(read_end, 1):
            if number[0] == signal.SIGINT:
                interrupted.set()
                action()
        os.close(read_end)

    def ignore(_number: int, _frame: Any) -> None:
        """The thread hears it; a handler is needed so that Python raises nothing."""

    handler = signal.signal(signal.SIGINT, ignore)
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    watcher = threading.Thread(target=wait, name="ctrl-c", daemon=True)
    watcher.start()
    try:
        yield interrupted
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGINT, handler)
        os.close(write_end)
        watcher.join()


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM, and the SIGHUP of a terminal that goes away, end the block like Ctrl-C does, so that nothing
    unfinished is left behind. What is ignored, as SIGHUP is under nohup, stays so."""
    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in heard]
    try:
        yield
    finally:
        for number, handler in zip(heard, before, strict=True):
            signal.signal(number, handler)
