"""Asking a worker: whoever answers wrongly, or not at all, is named and never reaches llama.cpp."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from localllm.errors import BadWorker
from localllm.native import rpc

Answer = Callable[[socket.socket], None]


@pytest.fixture
def serving() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that lets `answer` have its first connection; returns its endpoint."""
    opened: list[socket.socket] = []

    def start(answer: Answer) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        opened.append(server)

        def run() -> None:
            with contextlib.suppress(OSError):  # who asks may have had enough
                connection, _ = server.accept()
                opened.append(connection)
                answer(connection)

        threading.Thread(target=run, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for each in opened:
        each.close()


def _hello(major: int, count: int = 1) -> Answer:
    """A server of that protocol that says hello, and then that it has `count` devices."""

    def answer(connection: socket.socket) -> None:
        connection.recv(9 + 24)
        connection.sendall(struct.pack("<Q4B24x", 28, major, 0, 0, 0))
        connection.recv(9)
        connection.sendall(struct.pack("<QI", 4, count))

    return answer


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(BadWorker, match=f"no worker at 127.0.0.1:{port}") as caught:
        rpc.ask(f"127.0.0.1:{port}")
    assert f"localllm worker --port {port}" in caught.value.hint


def test_a_foreign_server(serving: Callable[[Answer], str]) -> None:
    endpoint = serving(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(BadWorker, match="is no worker"):
        rpc.ask(endpoint)


def test_a_server_that_hangs_up(serving: Callable[[Answer], str]) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(9 + 24)
        connection.close()

    with pytest.raises(BadWorker, match="hung up"):
        rpc.ask(serving(answer))


@pytest.mark.slow
def test_silence_ends(serving: Callable[[Answer], str]) -> None:
    with pytest.raises(BadWorker, match="does not answer") as caught:
        rpc.ask(serving(lambda _connection: None), seconds=0.2)
    assert "one program at a time" in caught.value.hint


@pytest.mark.slow
def test_a_few_bytes_at_a_time_do_not_prolong_it(serving: Callable[[Answer], str]) -> None:
    def drip(connection: socket.socket) -> None:
        for _ in range(8):
            connection.sendall(b"\x00")
            threading.Event().wait(0.1)

    with pytest.raises(BadWorker, match="does not answer"):
        rpc.ask(serving(drip), seconds=0.25)


def test_another_version(serving: Callable[[Answer], str]) -> None:
    with pytest.raises(BadWorker, match=r"speaks version 6\.0\.0") as caught:
        rpc.ask(serving(_hello(6)))
    assert "same version" in caught.value.hint


def test_no_devices(serving: Callable[[Answer], str]) -> None:
    with pytest.raises(BadWorker, match="offers no device"):
        rpc.ask(serving(_hello(7, 0)))


def test_a_host_without_address() -> None:
    with pytest.raises(BadWorker, match="has no address"):
        rpc.ask("a..b:50052")


@pytest.mark.parametrize(
    "text", ["", "50052", ":50052", "host", "host:", "host:0", "host:65536", "host:x", "::1:5", "h:²"]
)
def test_endpoints_have_a_form(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        rpc.parse_endpoint(text)
    assert rpc.parse_endpoint("localhost:50052") == ("localhost", 50052)
