"""Fetches one file by several connections at once, hashes it as it arrives, and names it when it is what it should be.

The hash follows behind the arrivals, so that little is left to do in the end and nothing is trusted that an earlier
process left. Knows nothing of where a file belongs.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from localllm.errors import BadModelFile, Cancelled, DownloadFailed
from localllm.gguf_file import read_header
from localllm.library.pulling.partial import BLOCK, Partial
from localllm.library.ranges import Fetcher, NoRanges, RemoteFile

CONNECTIONS = 8
"""The most there are at once. One is added after another while the processor has time: where the network is the limit
several help, where the processor is they are in each other's way.
"""

_BESIDE = 2
"""Threads that are no connections: one hashes, one flushes."""

_ADDED_AFTER, _IDLE = 0.2, 0.6
"""Seconds from one connection to the next, and the share of a core below which this process counts as idle."""

SPAN, LEAST = 64 * BLOCK, 4 * BLOCK
"""The most and the least bytes that a connection asks for at once."""

_FLUSHED = 128 * BLOCK
"""Bytes between two flushes to the disk: what is left for the end would be waited for."""

_LONGEST_END = 1.0
"""Seconds that a thread has to end. It does not write any more, but may hang where no server answers."""

TICK = 0.1
"""Seconds between two times that progress is told."""

_MAGIC = b"GGUF"

Count = Callable[[int], None]
"""Hears how many bytes of the file are here."""


class Download:
    """One file on its way. `whole` says that its server gives no parts: then one connection reads it from its start."""

    def __init__(self, fetcher: Fetcher, file: RemoteFile, partial: Partial, *, whole: bool = False) -> None:
        self._fetcher, self._file, self._partial, self._whole = fetcher, file, partial, whole
        self._next, self._hashed, self._working = 0, 0, 0
        self._failure: BaseException | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._over, self._full = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._digest = _digest(file)
        self._measured = 0.0, 0.0

    def run(self, count: Count) -> str:
        """Fetch what is missing and give the file its name; returns the hash of its content in hexadecimal digits.

        Interrupted at any time, the partial file keeps what arrived.

        Raises:
            DownloadFailed: the server refuses or fails; or the hash is another one, and the file is removed.
            BadModelFile: it does not begin as a GGUF does; it is removed.
            BadOutput: the disk is full or fails.
        """
        try:
            try:
                self._fetch(count)
            except NoRanges:
                if self._whole:
                    raise
                self._whole, self._failure, self._stopped = True, None, False
                self._fetch(count)
        except BadModelFile:
            self._partial.remove()
            raise
        found = self._digest.hexdigest()
        self._refuse_other(found)
        self._refuse_bad_header()
        self._partial.finish()
        return str(found)

    def is_over(self) -> bool:
        """Whether nobody uses the partial file any more."""
        return not self._threads

    def _fetch(self, count: Count) -> None:
        """Fetch what is missing, while this thread tells how much is here."""
        self._next, self._hashed, self._digest = 0, 0, _digest(self._file)
        self._over.clear()
        read = self._read_whole if self._whole else self._read_spans
        try:
            self._start(self._hash)
            self._start(self._flush)
            self._start(read)
            self._measured = time.monotonic(), time.process_time()
            while not self._ended():
                count(self._partial.arrived)
                if not self._whole and self._is_idle():
                    self._start(read)
        finally:
            self._end()
        if self._failure is not None:
            raise self._failure
        count(self._partial.arrived)

    def _start(self, work: Callable[[], None]) -> None:
        """Let a thread do it, unless there are enough of them, or nothing is left to do."""
        with self._changed:
            if len(self._threads) == _BESIDE + CONNECTIONS or (self._threads and not self._working):
                return
            self._working += 1
            self._threads.append(threading.Thread(target=self._guarded, args=(work,), daemon=True))
            self._threads[-1].start()

    def _is_idle(self) -> bool:
        """Whether the processor had time since this was last known; False where that is too short ago to tell."""
        before, had = self._measured
        now, used = time.monotonic(), time.process_time()
        if now - before < _ADDED_AFTER:
            return False
        self._measured = now, used
        return used - had < _IDLE * (now - before)

    def _ended(self) -> bool:
        """Wait a moment; returns whether all threads are done, or one has failed."""
        return self._over.wait(TICK)

    def _end(self) -> None:
        """Stop what runs. A thread that waits for bytes is woken; one that waits for a connection is left behind."""
        with self._changed:
            self._stopped = True
            ended = not self._working
            self._changed.notify_all()
        if not ended and not isinstance(self._failure, NoRanges):
            self._fetcher.stop()
        for thread in self._threads:
            thread.join(_LONGEST_END)
        self._threads = [thread for thread in self._threads if thread.is_alive()]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
        finally:
            with self._changed:
                self._working -= 1
                if not self._working or self._failure is not None:
                    self._over.set()
                self._changed.notify_all()

    def _read_spans(self) -> None:
        while (span := self._span()) is not None:
            self._read(*span)

    def _read_whole(self) -> None:
        self._fetcher.most_skipped = float("inf")
        first = next((block for block in range(self._partial.blocks) if not self._partial.has(block)), None)
        if first is not None:
            self._read(first * BLOCK, self._file.size)

    def _span(self) -> tuple[int, int] | None:
        """The next missing bytes that nobody fetches, from where to where."""
        with self._changed:
            if self._stopped or self._failure is not None:
                return None
            partial, first = self._partial, self._next
            while first < partial.blocks and partial.has(first):
                first += 1
            if first == partial.blocks:
                return None
            # Towards the end the spans get smaller, so that all connections end at about the same time.
            left = self._file.size - partial.arrived
            most = max(LEAST, min(SPAN, left // (2 * max(len(self._threads) - _BESIDE, 1))))
            last = first
            while last < partial.blocks and not partial.has(last) and (last - first) * BLOCK < most:
                last += 1
            self._next = last
            return first * BLOCK, min(last * BLOCK, self._file.size)

    def _read(self, start: int, stop: int) -> None:
        """Fetch a range that begins with a block; each of its blocks counts once all of it is written."""

        def put(done: int, chunk: bytes | memoryview) -> None:
            if self._stopped:
                raise Cancelled(f"The download of {self._file.name} was stopped.")
            first = start + done
            last = first + len(chunk)
            self._partial.write(first, memoryview(chunk))
            whole = -(-last // BLOCK) if last == stop else last // BLOCK
            if whole > first // BLOCK:
                self._note(range(first // BLOCK, whole))

        self._fetcher.stream(self._file, start, stop - start, put)

    def _note(self, blocks: range) -> None:
        with self._changed:
            for block in blocks:
                self._partial.note(block)
            self._changed.notify_all()

    def _hash(self) -> None:
        """Hash the file from its start to its end, as far as it is here."""
        buffer = memoryview(bytearray(BLOCK))
        while self._hashed < self._file.size:
            with self._changed:
                while not self._stopped and not self._partial.has(self._hashed // BLOCK):
                    self._changed.wait()
                if self._stopped:
                    return
            size = self._partial.read(self._hashed, buffer)
            if self._hashed == 0 and bytes(buffer[:4]) != _MAGIC:
                raise BadModelFile(
                    f"{self._file.name} is not a GGUF file: it begins with {bytes(buffer[:4])!r}. It was removed.",
                    hint="Is it the right address? A page to log in may have come in its place.",
                )
            self._digest.update(buffer[:size])
            self._hashed += size
            if self._hashed % _FLUSHED < size or self._hashed == self._file.size:
                self._full.set()

    def _flush(self) -> None:
        """Flush what was hashed to the disk, while what follows is received and hashed."""
        while self._hashed < self._file.size and not self._stopped:
            if self._full.wait(TICK):
                self._full.clear()
                self._partial.flush()

    def _refuse_other(self, found: str) -> None:
        wanted = self._file.sha256 or (self._file.version if _is_git_hash(self._file) else found)
        if found != wanted:
            self._partial.remove()
            raise DownloadFailed(
                f"{self._file.name} is not what it should be: its hash is {found}, not {wanted}. It was removed.",
                hint="The same command downloads it again.",
            )

    def _refuse_bad_header(self) -> None:
        try:
            read_header(self._partial.path)
        except BadModelFile as error:
            self._partial.remove()
            what = error.message.replace(str(self._partial.path), self._file.name)
            raise BadModelFile(f"{what} It was removed.", hint=error.hint) from error


def _is_git_hash(file: RemoteFile) -> bool:
    return file.sha256 is None and re.fullmatch(r"[0-9a-f]{40}", file.version) is not None


def _digest(file: RemoteFile) -> Any:
    """SHA-256; of a file that is in the repo itself and not in large-file storage, git's hash is what the hub tells."""
    if _is_git_hash(file):
        return hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)
    return hashlib.sha256()
