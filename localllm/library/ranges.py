"""Ranges of files on the hub over HTTP: one at a time, tried again where that may help, given up where it cannot.

The hub answers for a large file with a link to a store, signed for a while; the link is used until it is refused. Knows
nothing of what is read and in which order.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from localllm import __version__
from localllm.errors import Cancelled, DownloadFailed, LocalLLMError
from localllm.library import body, refusals

TRIES = 6
"""Requests in a row that bring not one byte before a download fails."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 120.0
"""Seconds before the second try, which double from try to try; and the most that a server may ask to wait."""

LONG = 4.0
"""Seconds of waiting that people hear of."""

GO_ON = "Check the network and try again; --resume keeps what is done of a conversion."

_MOST_SKIPPED = 16 << 20
_REFUSED = (401, 403, 404, 410)

Explain = Callable[[Exception, str], "LocalLLMError | None"]

Put = Callable[[int, "bytes | memoryview"], None]
"""Takes bytes as they arrive, and where in the range that was asked for they belong. They last until it returns."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repo at one commit, or of a web server. `sha256` is known of those in large-file storage.

    `etag` is what a server must go on to call the file, where that is known.
    """

    name: str
    url: str
    size: int
    version: str
    sha256: str | None = None
    etag: str = ""


class NoRanges(DownloadFailed):
    """The server gives a file as a whole only, and the range is too far from its start to skip what is before."""


class _Again(Exception):
    """A try that failed and may succeed when it is repeated, after the seconds that the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Fetcher:
    """Fetches ranges; several threads may do so at once. `received` counts the bytes that arrived.

    `remark` hears when it waits long. `explain` knows the errors that another try would not mend, and `go_on` says what
    to do when too many tries failed. `most_skipped` is how much may be thrown away of what servers send that know no
    ranges. `direct` reads bodies that are not encrypted from their sockets, which takes less processor time, and a
    connection for each range; it is for whoever compares the hash of what comes.
    """

    def __init__(
        self,
        title: str,
        remark: Callable[[str], None],
        *,
        explain: Explain = refusals.explain,
        go_on: str = GO_ON,
        direct: bool = False,
    ) -> None:
        self.title, self._remark, self._explain, self._go_on = title, remark, explain, go_on
        self._direct = direct
        self.most_skipped: float = _MOST_SKIPPED
        self.received = 0
        self._links: dict[str, str] = {}
        self._active: set[Any] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._quiet_until = 0.0

    def fetch(self, file: RemoteFile, start: int, target: memoryview) -> None:
        """Fill `target` with the bytes of `file` from `start` on. Raises what `stream` does."""

        def put(done: int, chunk: bytes | memoryview) -> None:
            target[done : done + len(chunk)] = chunk

        self.stream(file, start, len(target), put)

    def stream(self, file: RemoteFile, start: int, size: int, put: Put) -> None:
        """Give `put` the `size` bytes of `file` from `start` on, in their order.

        Raises:
            DownloadFailed: the hub refuses, the file there is another one, or too many tries failed.
            Cancelled: `stop` was called.
        """
        done = failures = 0
        while done < size:
            before = done
            try:
                for chunk in self._chunks(file, start + done, start + size):
                    put(done, chunk)
                    done += len(chunk)
                if done < size:
                    raise _Again("the connection was cut")
            except (_Again, HTTPError, OSError) as error:
                failures = 1 if done > before else failures + 1
                self._after(error, file.name, failures)

    def ask(self, url: str, name: str) -> tuple[RemoteFile, bool]:
        """What a web server says of a file, and whether it gives parts of it.

        Raises:
            DownloadFailed, ModelNotFound: it refuses, does not tell the size, or too many tries failed.
            Cancelled: `stop` was called.
        """
        failures = 0
        while True:
            failures += 1
            try:
                with self._response(url, {**headers_for(url), **_range(0, 1)}) as response:
                    return self._described(response, url, name)
            except (_Again, HTTPError, OSError) as error:
                self._after(error, name, failures)

    def _described(self, response: Any, url: str, name: str) -> tuple[RemoteFile, bool]:
        _raise_for_status(response)
        found = re.fullmatch(r"bytes 0-0/(\d+)", response.headers.get("Content-Range", ""))
        size = found[1] if found else response.headers.get("Content-Length", "")
        if not size:
            raise DownloadFailed(f"The server of {url} does not tell how large the file is.")
        version = response.headers.get("ETag", "") or response.headers.get("Last-Modified", "")
        return RemoteFile(
            name, url, int(size), f"{url} {version}", etag=response.headers.get("ETag", "")
        ), found is not None

    def _after(self, error: Exception, name: str, failures: int) -> None:
        """Wait for another try, or say why there is none."""
        if self._stopped.is_set():
            raise Cancelled(f"Reading {self.title} was stopped.") from error
        refused = self._explain(error, self.title)
        if refused is not None:
            raise refused from error
        if failures == TRIES:
            raise self._given_up(name, error) from error
        self._wait(error, failures)

    def _given_up(self, name: str, error: Exception) -> DownloadFailed:
        reason = str(error) or type(error).__name__
        if isinstance(error, HfHubHTTPError):
            reason = str(error).splitlines()[0]
        told = f"{name} could not be read: {reason}, {TRIES} times in a row."
        return DownloadFailed(f"{self.title}: {told}", hint=self._go_on)

    def stop(self) -> None:
        """Nothing more is wanted: what waits for bytes or for another try ends now."""
        self._stopped.set()
        with self._lock:
            for response in self._active:
                # A thread that waits for bytes wakes up when its socket is shut down, not when it is closed.
                with contextlib.suppress(OSError, AttributeError, KeyError):
                    response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def _wait(self, error: Exception, failures: int) -> None:
        seconds = seconds_to_wait(error.wait if isinstance(error, _Again) else None, failures)
        if seconds >= LONG:
            self._say(f"{self.title}: {error}; waiting {seconds:.0f} s", seconds)
        self._pause(seconds)

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Cancelled(f"Reading {self.title} was stopped.")

    def _say(self, text: str, seconds: float) -> None:
        """Tell it once, though every connection waits."""
        with self._lock:
            said, now = self._quiet_until, time.monotonic()
            self._quiet_until = max(said, now + seconds)
        if now >= said:
            self._remark(text)

    def _chunks(self, file: RemoteFile, start: int, stop: int) -> Iterator[bytes | memoryview]:
        """The bytes from `start` to `stop`, as they arrive; fewer when the connection ends early."""
        link = self._links.get(file.name)
        url = link or file.url
        with self._response(url, {**headers_for(url), **_range(start, stop)}) as response:
            signed = urlsplit(str(response.url)).netloc != urlsplit(file.url).netloc
            if signed and response.status_code in _REFUSED:
                self._links.pop(file.name, None)
                raise _Again(f"the link to {file.name} is no longer valid", 0.0)
            _raise_for_status(response)
            if signed:
                self._links[file.name] = str(response.url)
            skip = self._bytes_before(file, response, start)
            left = stop - start
            for chunk in body.received(response) if self._direct else response.iter_raw():
                with self._lock:
                    self.received += len(chunk)
                wanted = chunk[skip : skip + left]
                skip -= min(skip, len(chunk))
                left -= len(wanted)
                if wanted:
                    yield wanted
                # A body that is read to its end leaves the connection for the next request.
                if left == 0 and response.status_code == 200:
                    return

    def _bytes_before(self, file: RemoteFile, response: Any, start: int) -> int:
        """The bytes to skip: none, unless the server ignores ranges."""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if response.status_code == 206 and found and int(found[1]) == start:
            total = found[2]
        elif response.status_code == 200 and start <= self.most_skipped:
            total, found = response.headers.get("Content-Length", "*"), None
        else:
            raise NoRanges(
                f"{self.title}: the server of {file.name} does not give parts of it.",
                hint="Download it as a whole: --keep-download.",
            )
        changing = "It may just be changing: try again."
        if total != "*" and int(total) != file.size:
            raise DownloadFailed(
                f"{self.title}: {file.name} has {int(total):,} bytes where {file.size:,} were announced.", hint=changing
            )
        if file.etag and response.headers.get("ETag", file.etag) != file.etag:
            raise DownloadFailed(f"{self.title}: {file.name} is another file than before.", hint=changing)
        return 0 if found else start

    @contextlib.contextmanager
    def _response(self, url: str, headers: dict[str, str]) -> Iterator[Any]:
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            with self._lock:
                self._active.add(response)
            try:
                if self._stopped.is_set():
                    raise Cancelled(f"Reading {self.title} was stopped.")
                yield response
            finally:
                with self._lock:
                    self._active.discard(response)


def headers_for(url: str) -> dict[str, str]:
    """What every request says. A signed link is for whoever has it, and a web server is none of ours: the token stays
    with the hub.
    """
    if _origin(url) != _origin(constants.ENDPOINT):
        return {"User-Agent": f"localllm/{__version__}"}
    headers: dict[str, str] = build_hf_headers(library_name="localllm", library_version=__version__)
    return headers


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _range(start: int, stop: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}


def _raise_for_status(response: Any) -> None:
    if response.status_code in refusals.BUSY:
        raise _Again(f"the server answers {response.status_code}", asked_wait(response.headers))
    hf_raise_for_status(response)


def seconds_to_wait(asked: float | None, failures: int) -> float:
    """Before the next try after so many failures, when a server asked for some time or for none."""
    return min(FIRST_WAIT * 2 ** (failures - 1) if asked is None else asked, LONGEST_WAIT)


def asked_wait(headers: Any) -> float | None:
    """The seconds that a busy server asks to wait, by either of the headers that the hub sends."""
    if (after := headers.get("Retry-After", "").strip()).isdigit():
        return float(after)
    left = re.search(r";\s*t=(\d+)", headers.get("RateLimit", ""))
    return float(left.group(1)) if left else None
