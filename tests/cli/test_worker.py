"""`localllm worker`: tells the truth about memory, keeps to its budget, ends at once."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time

import pytest

from localllm.cli import worker as command
from localllm.cli.main import main
from localllm.native import machine, rpc, rpc_server
from tests.workers import worker

MIB = 1 << 20
ALLOCATE, FREE, DEVICE_MEMORY = 0, 4, 11  # enum rpc_cmd of ggml-rpc.cpp


@pytest.mark.slow
def test_it_speaks_the_protocol_of_this_build() -> None:
    with worker() as running:
        found = rpc.ask(running.endpoint)
    assert found.version in rpc.PROTOCOLS.values()
    ((free, total),) = found.memory
    assert total == machine.system_memory()[1]
    assert 0 < free < total  # ggml itself would tell all memory as free


@pytest.mark.slow
def test_devices_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    with worker("--memory", "100MiB") as running:
        assert main(["devices", "--worker", running.endpoint]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:4] == [running.endpoint, "worker", "100.0", "MiB"]
    assert main(["devices", "--worker", running.endpoint]) == 1
    assert "no worker at" in capsys.readouterr().err


@pytest.mark.slow
def test_the_budget_holds() -> None:
    with worker("--memory", "100MiB") as running:
        host, port = rpc.parse_endpoint(running.endpoint)
        with rpc._connected(running.endpoint, host, port, time.monotonic() + 20) as connection:
            connection.ask(14, bytes(24), 28)

            def free() -> int:
                told: tuple[int, int] = struct.unpack("<QQ", connection.ask(DEVICE_MEMORY, struct.pack("<I", 0), 16))
                assert told[1] == 100 * MIB
                return told[0]

            def allocate(size: int) -> int:
                pointer: int = struct.unpack("<QQ", connection.ask(ALLOCATE, struct.pack("<IQ", 0, size), 16))[0]
                return pointer

            assert free() == 100 * MIB
            buffer = allocate(60 * MIB)
            assert buffer
            assert free() == 40 * MIB
            assert not allocate(60 * MIB)
            assert allocate(40 * MIB)
            assert free() == 0
            connection._socket.sendall(struct.pack("<BQQ", FREE, 8, buffer))  # this command has no answer
            assert free() == 60 * MIB
        # Who hangs up gives back what it had.
        assert rpc.ask(running.endpoint).memory == ((100 * MIB, 100 * MIB),)


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_client_connected() -> None:
    with worker() as running:
        host, port = rpc.parse_endpoint(running.endpoint)
        with rpc._connected(running.endpoint, host, port, time.monotonic() + 20) as connection:
            connection.ask(14, bytes(24), 28)
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(timeout=20) == 130
        assert running.process.stderr is not None
        assert running.process.stderr.read() == "interrupted\n"


@pytest.mark.slow
def test_a_port_in_use_is_named() -> None:
    with worker() as running:
        port = running.endpoint.split(":")[1]
        done = subprocess.run(
            [sys.executable, "-m", "localllm", "worker", "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port} cannot be served on" in done.stderr
    assert "--port 0" in done.stderr


def test_other_addresses_come_with_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[str] = []
    monkeypatch.setattr(rpc_server, "serve", lambda listen, *_args, **_named: served.append(listen))
    monkeypatch.setattr(command, "_own_stdout", lambda _verbose: sys.stdout)
    monkeypatch.setattr(command, "_free_port", lambda _listen, wanted: wanted)
    assert main(["worker"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["worker", "--listen", "0.0.0.0"]) == 0
    err = capsys.readouterr().err
    assert "no authentication and no encryption" in err
    assert "ssh -N -L" in err
    assert served == ["127.0.0.1", "0.0.0.0"]
    assert command.DEFAULT_PORT == rpc.DEFAULT_PORT


@pytest.mark.parametrize("flags", [["--listen", "localhost"], ["--port", "65536"], ["--memory", "lots"]])
def test_wrong_flags_are_wrong_usage(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["worker", *flags])
    assert caught.value.code == 2
