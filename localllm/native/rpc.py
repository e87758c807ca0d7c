"""Workers: devices of other processes or machines, reached through llama.cpp's RPC backend.

llama.cpp ends the whole process when a worker does not answer, answers oddly or goes away. So a worker is first asked
over a socket of our own, with a time limit; only one that answers well is given to llama.cpp.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localllm.errors import BadWorker, MissingPackage
from localllm.native import lib

if TYPE_CHECKING:  # imported where a worker is asked: all loads import this module, and few use workers
    import socket

DEFAULT_PORT = 50052

PROTOCOLS = {"0.3.36": (7, 0, 0)}
"""RPC_PROTO_*_VERSION of ggml-rpc.h by the release of llama-cpp-python; the library itself does not tell."""

_HELLO, _DEVICE_COUNT, _DEVICE_MEMORY = 14, 15, 11  # enum rpc_cmd of ggml-rpc.cpp
_CAPABILITIES = 24  # RPC_CONN_CAPS_SIZE of transport.h
_SECONDS = 5.0


@dataclass(frozen=True)
class Worker:
    """A worker that answered: (free, total) bytes of each device, its protocol, and the seconds of one question."""

    endpoint: str
    version: tuple[int, int, int]
    memory: tuple[tuple[int, int], ...]
    round_trip: float


def parse_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; IPv4 only, as in llama.cpp.

    Raises:
        ValueError: it has another form.
    """
    host, _, port = endpoint.rpartition(":")
    if not host or ":" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{endpoint!r} is no worker: it is written HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}")
    return host, int(port)


def ask(endpoint: str, seconds: float = _SECONDS) -> Worker:
    """Ask the worker what it has. Takes at most `seconds`.

    Raises:
        BadWorker: nobody answers there, or no worker, or one that speaks another version.
    """
    host, port = parse_endpoint(endpoint)
    deadline = time.monotonic() + seconds
    with _connected(endpoint, host, port, deadline) as connection:
        version = struct.unpack("<4B", connection.ask(_HELLO, bytes(_CAPABILITIES), 4 + _CAPABILITIES)[:4])[:3]
        _check_version(endpoint, version)
        start = time.perf_counter()
        (count,) = struct.unpack("<I", connection.ask(_DEVICE_COUNT, b"", 4))
        round_trip = time.perf_counter() - start
        memory = [
            struct.unpack("<QQ", connection.ask(_DEVICE_MEMORY, struct.pack("<I", index), 16))
            for index in range(min(count, 16))
        ]
    if not memory:
        raise BadWorker(f"The worker at {endpoint} offers no device.", hint="Start it again: localllm worker")
    return Worker(endpoint, version, tuple(memory), round_trip)


def _check_version(endpoint: str, version: tuple[int, ...]) -> None:
    """Refuse another protocol. Where ours is not known, llama.cpp decides."""
    import importlib.metadata

    ours = PROTOCOLS.get(importlib.metadata.version("llama-cpp-python"))
    if ours is not None and version != ours:
        theirs, own = (".".join(map(str, numbers)) for numbers in (version, ours))
        raise BadWorker(
            f"The worker at {endpoint} speaks version {theirs} of llama.cpp's RPC protocol; this build speaks {own}.",
            hint="Install the same version of llama-cpp-python on both machines.",
        )


class _Connection:
    """One connection to a worker. Every question has the same deadline."""

    def __init__(self, endpoint: str, connection: socket.socket, deadline: float) -> None:
        self._endpoint, self._socket, self._deadline = endpoint, connection, deadline

    def ask(self, command: int, body: bytes, length: int) -> bytes:
        """Send a command: one byte, the size of its body in eight, the body. Returns the `length` bytes it answers."""
        self._socket.sendall(struct.pack("<BQ", command, len(body)) + body)
        (size,) = struct.unpack("<Q", self._read(8))
        if size != length:
            raise BadWorker(f"What answers at {self._endpoint} is no worker.", hint="Start one there: localllm worker")
        return self._read(length)

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            self._socket.settimeout(max(0.001, self._deadline - time.monotonic()))
            part = self._socket.recv(count - len(found))
            if not part:
                raise BadWorker(
                    f"What answers at {self._endpoint} hung up: it is no worker, or one of another version.",
                    hint="Use the same version of llama-cpp-python on both machines.",
                )
            found += part
        return found


@contextlib.contextmanager
def _connected(endpoint: str, host: str, port: int, deadline: float) -> Iterator[_Connection]:
    """A connection to the worker; what goes wrong inside the block with the network comes out as `BadWorker`."""
    import socket

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            connection.connect((host, port))
            yield _Connection(endpoint, connection, deadline)
    except (socket.gaierror, UnicodeError) as error:
        raise BadWorker(f"The host of the worker {endpoint} has no address.", hint="Is its name right?") from error
    except TimeoutError as error:
        raise BadWorker(
            f"The worker at {endpoint} does not answer.",
            hint="A worker serves one program at a time: another may be using it, or a firewall is in between.",
        ) from error
    except OSError as error:
        raise BadWorker(
            f"There is no worker at {endpoint}: {error.strerror or error}.",
            hint=f"Start one there: localllm worker --port {port}",
        ) from error


@functools.cache
def functions() -> dict[str, Any]:
    """What is used of libggml-rpc.

    Raises:
        MissingPackage: this build of llama.cpp has no RPC backend.
    """
    lib.llama()
    try:
        library = lib.ggml("ggml-rpc")
    except FileNotFoundError as error:
        raise MissingPackage(
            "This build of llama.cpp has no RPC backend, which workers need.",
            hint="In a checkout: tools/install --rebuild. Else: "
            'CMAKE_ARGS="-DGGML_RPC=ON" pip install --force-reinstall --no-cache-dir llama-cpp-python',
        ) from error
    base, pointer, size = lib.ggml("ggml-base"), ctypes.c_void_p, ctypes.c_size_t
    text = ctypes.c_char_p
    return {
        "add": lib.bind(library, "ggml_backend_rpc_add_server", pointer, text),
        "serve": lib.bind(library, "ggml_backend_rpc_start_server", None, text, text, size, size, pointer),
        "count": lib.bind(base, "ggml_backend_reg_dev_count", size, pointer),
        "device": lib.bind(base, "ggml_backend_reg_dev_get", pointer, pointer, size),
    }


_connected_to: dict[tuple[str, int], str] = {}
"""The endpoints of workers that this process uses, by address and port."""


@functools.cache
def connect(endpoint: str) -> list[int]:
    """ggml's pointers to the devices of the worker, which is asked first, once in the life of this process.

    They are not registered: only a model that is given them uses them. From here on, if the worker goes away, llama.cpp
    ends this process.

    Raises:
        BadWorker, MissingPackage: it cannot be used.
    """
    import socket

    call = functions()
    ask(endpoint)
    host, port = parse_endpoint(endpoint)
    other = _connected_to.setdefault((socket.gethostbyname(host), port), endpoint)
    if other != endpoint:
        # To llama.cpp they are two, and it would wait without end for the worker to have done with the first.
        raise BadWorker(f"{endpoint} and {other} are the same worker.", hint="Name it once.")
    registry = call["add"](endpoint.encode())
    return [call["device"](registry, index) for index in range(call["count"](registry))]
