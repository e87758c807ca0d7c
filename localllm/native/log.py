"""Where llama.cpp's log goes, and what of it is remembered.

llama.cpp logs to stderr unless told otherwise, which ruins a terminal app. Here every line goes to one sink, which is
a log file by default, and each thread's last warnings and errors are kept, because they hold the only reason why a load
failed. Knows no llama.cpp.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

LogSink = Callable[[int, str], None]
"""Called with ggml's level (1 debug, 2 info, 3 warning, 4 error) and one line or part of a line."""

WARNING, ERROR = 3, 4

_sink: LogSink | None = None


class Heard:
    """What was logged in a thread: its last `problems`, and all `lines` while somebody collects them."""

    def __init__(self) -> None:
        self.problems: deque[str] = deque(maxlen=50)
        self.lines: list[str] | None = None


class _Threads(threading.local):
    def __init__(self) -> None:
        self.heard = Heard()


_threads = _Threads()


def of_this_thread() -> Heard:
    """What was logged in this thread."""
    return _threads.heard


def counted_for(other: Heard, work: Callable[[], T]) -> T:
    """The result of `work`; what is logged in it counts for another thread, which waits meanwhile."""
    before, _threads.heard = _threads.heard, other
    try:
        return work()
    finally:
        _threads.heard = before


def heard(level: int, line: str) -> None:
    """llama.cpp logged a line, or a part of one, in this thread."""
    mine = of_this_thread()
    if level in (WARNING, ERROR):
        mine.problems.append(line.rstrip("\n"))
    if mine.lines is not None:
        mine.lines.append(line)
    if _sink is not None:
        _sink(level, line)


def set_log(sink: LogSink | None) -> None:
    """Send every line of llama.cpp's log to `sink`; None drops them."""
    global _sink
    before, _sink = _sink, sink
    if isinstance(before, LogFile):
        before.close()


class LogFile:
    """A file that holds the last of llama.cpp's log: emptied when it grows past `LIMIT` bytes."""

    LIMIT = 1 << 20

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a", encoding="utf-8", errors="replace", buffering=1)

    def __call__(self, _level: int, line: str) -> None:
        """Append `line`. A full disk ends the log, not the program."""
        try:
            if self._stream.tell() > self.LIMIT:
                self._stream.truncate(0)
            self._stream.write(line)
        except (OSError, ValueError):
            set_log(None)

    def close(self) -> None:
        """Close the file; what was not written is lost."""
        with contextlib.suppress(OSError):
            self._stream.close()


def to_file(path: Path) -> None:
    """Append llama.cpp's log to `path`, kept below some MiB. A folder that cannot be written is no reason to fail."""
    try:
        set_log(LogFile(path))
    except OSError:
        set_log(None)


def to_stderr() -> None:
    """Send llama.cpp's log to stderr: `--verbose`."""
    set_log(lambda _level, line: (sys.stderr.write(line), None)[1])


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Collect what is logged in this thread inside the block."""
    lines: list[str] = []
    mine = of_this_thread()
    before, mine.lines = mine.lines, lines
    try:
        yield lines
    finally:
        mine.lines = before


def recent_problems() -> list[str]:
    """The last warnings and errors that llama.cpp logged in this thread, oldest first."""
    return list(of_this_thread().problems)


def forget_problems() -> None:
    """Empty `recent_problems()` before a call whose failure they shall explain."""
    of_this_thread().problems.clear()
