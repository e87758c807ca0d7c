"""Reads files from afar as if they were near: what will be read is fetched ahead by a few connections.

Files are fetched in pieces. A piece is dropped after it was read, when its room is needed; while what was fetched and
not read fills the room, no more is fetched ahead. What nobody expected is fetched as soon as it is asked for, so memory
is the room, or a tensor of which small parts of all rows are read at a time. Knows nothing of HTTP.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from localllm.convert.files import Range
from localllm.errors import Cancelled

PIECE = 4 << 20
"""Bytes that are asked for at once. Some milliseconds of waiting for an answer are little beside their transfer."""

PAGE = 64 << 10
"""The least that is asked for: who reads the length of a header reads the header next. Smaller gaps are fetched too."""

ROOM = 64 << 20
"""Bytes of pieces in memory."""

GROUP = 32 << 20
"""Within so many bytes of the expected order ranges are put in the order of their files, and so fewer are asked for."""

CONNECTIONS = 4

Fetch = Callable[[str, int, memoryview], None]
"""Fills the memory with the bytes of a file from an offset on."""


@dataclass(eq=False)
class _Piece:
    """A part of a file. `place` counts the bytes expected before it; `unread` the bytes that nobody asked for yet."""

    file: str
    start: int
    stop: int
    place: int = 0
    asked: bool = False
    buffer: bytearray | None = None
    ready: bool = False
    unread: int = field(init=False)

    def __post_init__(self) -> None:
        self.unread = self.size

    @property
    def size(self) -> int:
        return self.stop - self.start


class ReadAhead:
    """The pieces of some files. Safe from any thread."""

    def __init__(self, sizes: dict[str, int], fetch: Fetch) -> None:
        self._sizes, self._fetch = sizes, fetch
        self._pieces: dict[str, list[_Piece]] = {name: [] for name in sizes}
        self._urgent: deque[_Piece] = deque()
        self._planned: deque[_Piece] = deque()
        self._held: list[_Piece] = []
        self._front = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def expect(self, ranges: Sequence[Range]) -> None:
        """Fetch these ahead, about in this order, in place of what was expected before."""
        with self._changed:
            planned = [
                piece for part in _in_groups(ranges) for piece in self._covering(part[0], part[1], part[1] + part[2], 0)
            ]
            place = self._front
            for piece in planned:
                piece.place = place
                place += piece.size
            self._planned = deque(dict.fromkeys(piece for piece in planned if piece.buffer is None))
            self._start()
            self._changed.notify_all()

    def read_into(self, file: str, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on; returns the bytes read, fewer only at the end.

        Raises:
            Cancelled: `stop` was called.
            LocalLLMError: what fetching raised.
        """
        stop = min(offset + len(target), self._sizes[file])
        with self._changed:
            pieces = list(self._covering(file, offset, stop, PAGE))
            for piece in pieces:
                self._want(piece)
            for piece in pieces:
                self._wait_for(piece)
                assert piece.buffer is not None
                first, last = max(offset, piece.start), min(stop, piece.stop)
                part = memoryview(piece.buffer)[first - piece.start : last - piece.start]
                target[first - offset : last - offset] = part
                piece.unread -= last - first
                self._front = max(self._front, piece.place)
            self._changed.notify_all()
        return max(stop - offset, 0)

    def stop(self) -> None:
        """Whoever waits gets an error, and nothing more is fetched."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def join(self, seconds: float) -> None:
        """Wait until the threads have ended, at most so long each. They are daemons: one may hang in a connection."""
        for thread in self._threads:
            thread.join(seconds)

    def _covering(self, file: str, start: int, stop: int, least: int) -> Iterator[_Piece]:
        """The pieces over a range, in order; where there are none yet, new ones, of `least` bytes where it may be."""
        pieces = self._pieces[file]
        while start < stop:
            number = bisect.bisect_right(pieces, start, key=lambda piece: piece.start)
            if number and pieces[number - 1].stop > start:
                piece = pieces[number - 1]
            else:
                following = pieces[number].start if number < len(pieces) else self._sizes[file]
                piece = _Piece(file, start, min(following, max(stop, start + least), start + PIECE))
                pieces.insert(number, piece)
            yield piece
            start = piece.stop

    def _want(self, piece: _Piece) -> None:
        if piece.buffer is None and not piece.asked:
            piece.asked, piece.place = True, max(piece.place, self._front)
            self._urgent.append(piece)
            self._start()
            self._changed.notify_all()

    def _wait_for(self, piece: _Piece) -> None:
        while not piece.ready:
            if self._failure is not None:
                raise self._failure
            if self._stopped:
                raise Cancelled("Reading was stopped.")
            self._want(piece)  # again, where it was dropped while another was waited for
            self._changed.wait()

    def _start(self) -> None:
        if not self._threads and not self._stopped:
            for number in range(CONNECTIONS):
                self._threads.append(threading.Thread(target=self._work, name=f"download-{number}", daemon=True))
                self._threads[-1].start()

    def _work(self) -> None:
        while (piece := self._next()) is not None:
            assert piece.buffer is not None
            try:
                self._fetch(piece.file, piece.start, memoryview(piece.buffer))
            except BaseException as error:
                with self._changed:
                    self._failure = self._failure or error
                    self._changed.notify_all()
                return
            with self._changed:
                piece.ready = True
                self._changed.notify_all()

    def _next(self) -> _Piece | None:
        """The next piece to fetch, with memory, as soon as there is one; None when nothing more is wanted."""
        with self._changed:
            while not self._stopped and self._failure is None:
                piece = self._chosen()
                if piece is not None:
                    self._make_room(piece.size)
                    piece.buffer, piece.asked, piece.unread = bytearray(piece.size), False, piece.size
                    self._held.append(piece)
                    return piece
                self._changed.wait()
        return None

    def _chosen(self) -> _Piece | None:
        while self._urgent:
            piece = self._urgent.popleft()
            if piece.buffer is None:
                return piece
        while self._planned and (
            self._planned[0].buffer or self._planned[0].asked or self._is_passed(self._planned[0])
        ):
            self._planned.popleft()
        if self._planned and self._make_room(self._planned[0].size):
            return self._planned.popleft()
        return None

    def _make_room(self, size: int) -> bool:
        """Drop what was read, the longest held first, then what was passed over, until so much fits."""
        used = sum(piece.size for piece in self._held)
        for piece in [piece for piece in self._held if self._is_over(piece)]:
            if used + size <= ROOM:
                break
            piece.buffer, piece.ready = None, False
            self._held.remove(piece)
            used -= piece.size
        return used + size <= ROOM

    def _is_over(self, piece: _Piece) -> bool:
        return piece.ready and (piece.unread <= 0 or self._is_passed(piece))

    def _is_passed(self, piece: _Piece) -> bool:
        """Whether others read on far behind it: it was expected in vain."""
        return piece.place + ROOM < self._front


def _in_groups(ranges: Iterable[Range]) -> Iterator[Range]:
    """The ranges, in the order of their files within groups; neighbours become one."""
    group: list[Range] = []
    for part in itertools.chain(ranges, [None]):
        if part is not None:
            group.append(part)
        if part is None or sum(size for _, _, size in group) >= GROUP:
            yield from _joined(sorted(group))
            group = []


def _joined(ranges: Sequence[Range]) -> Iterator[Range]:
    joined: list[Range] = []
    for file, start, size in ranges:
        last, begin, length = joined[-1] if joined else ("", 0, 0)
        if file == last and start - (begin + length) <= PAGE:
            joined[-1] = (file, begin, max(length, start + size - begin))
        else:
            joined.append((file, start, size))
    yield from joined
