"""The body of an HTTP response, read from its socket where that is the same and takes less of the processor.

The HTTP library has asked, followed the redirects and read the header; its own way to a body goes through several
layers and copies for each 64 KiB. Knows nothing of ranges, and of what is in a body.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from huggingface_hub import constants

_RECEIVED = 1 << 20
"""Bytes that are taken from a socket at most at once."""


def received(response: Any) -> Iterator[bytes | memoryview]:
    """The body of a response as it arrives, past the HTTP library where its length is known and nothing is between the
    socket and the body. What is encrypted goes through the library, and its connection is used again.
    """
    pieces = response.iter_raw()
    first = next(pieces, b"")
    yield first
    # With the first piece the library has given all that it read behind the headers.
    left = int(response.headers.get("Content-Length", "0")) - len(first)
    receiver = _socket(response) if left > 0 else None
    if receiver is None:
        yield from pieces
        return
    receiver.settimeout(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    buffer = memoryview(bytearray(_RECEIVED))
    while left > 0 and (size := receiver.recv_into(buffer, min(left, _RECEIVED))):
        left -= size
        yield buffer[:size]


def _socket(response: Any) -> socket.socket | None:
    """The socket that the body of a response comes from as it is; None where frames, chunks or encryption are
    between.
    """
    stream = response.extensions.get("network_stream")
    if stream is None or response.http_version != "HTTP/1.1" or "Transfer-Encoding" in response.headers:
        return None
    found, encrypted = stream.get_extra_info("socket"), stream.get_extra_info("ssl_object")
    return found if isinstance(found, socket.socket) and encrypted is None else None
