"""Streams that were closed by whoever started the command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

LOCALLLM = (sys.executable, "-m", "localllm")


def _with(closed: str, *command: str) -> subprocess.CompletedProcess[str]:
    """What a command says that a shell starts with streams closed."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
@pytest.mark.parametrize("command", [("chats", "list"), ("list",), ("config", "list", "--json")])
def test_a_command_works_without_a_stream(closed: str, command: tuple[str, ...]) -> None:
    done = _with(closed, *LOCALLLM, *command)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert bool(done.stdout) == (">" not in closed)


def test_what_is_no_result_does_not_go_to_stdout_when_stderr_is_closed() -> None:
    done = _with("2>&-", *LOCALLLM, "config", "set", "ctx", "4096")
    assert (done.returncode, done.stdout) == (0, "")
    assert _with("2>&-", *LOCALLLM, "config", "get", "ctx").stdout == "4096\n"


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    (tmp_path / "numbers.py").write_text(
        "import sys\nfrom localllm.cli import streams\nstreams.prepare()\nfile = open(sys.argv[1], 'w')\n"
        "print(file.fileno(), file=file, flush=True)\n"
    )
    done = _with("<&- >&- 2>&-", sys.executable, str(tmp_path / "numbers.py"), str(tmp_path / "number"))
    assert done.returncode == 0
    assert int((tmp_path / "number").read_text()) > 2


def test_streams_that_do_not_wait_lose_nothing() -> None:
    program = "import sys; from localllm.cli import streams; streams.prepare(); print('read', flush=True)\n"
    program += "print(sys.stdin.read() * 100_000, end='')"
    (in_end, feed), (take, out_end) = os.pipe(), os.pipe()
    os.set_blocking(in_end, False)
    os.set_blocking(out_end, False)
    child = subprocess.Popen([sys.executable, "-c", program], stdin=in_end, stdout=out_end, stderr=subprocess.PIPE)
    os.close(in_end)
    os.close(out_end)
    with os.fdopen(take, "rb") as said:
        assert said.readline() == b"read\n"
        time.sleep(0.2)  # for it to find nothing to read, and then nobody who reads
        os.write(feed, b"word ")
        os.close(feed)
        time.sleep(0.2)
        assert len(said.read()) == 500_000
    assert child.communicate(timeout=60)[1] == b""
    assert child.returncode == 0


def test_a_byte_order_mark_is_no_text() -> None:
    program = "import sys; from localllm.cli import streams; streams.prepare(); print(ascii(sys.stdin.read()))"
    command, piped = [sys.executable, "-c", program], "\ufeff/help\n\ufeff"
    done = subprocess.run(command, input=piped.encode(), capture_output=True, text=False, check=True)
    assert done.stdout == b"'/help\\n\\ufeff'\n"


@pytest.mark.slow
def test_a_chat_without_any_stream_keeps_what_was_said(smollm2: Path) -> None:
    chat = (*LOCALLLM, "chat", "--plain", str(smollm2), "--ctx", "256")
    assert _with("<&- >&- 2>&-", *chat).returncode == 0
    line = subprocess.run(
        ["sh", "-c", 'echo Hi | "$@" --max-tokens 2 >&- 2>&-', "sh", *chat], capture_output=True, text=True
    )
    assert (line.returncode, line.stdout) == (0, "")
    assert "  2  Hi" in subprocess.run([*LOCALLLM, "chats", "list"], capture_output=True, text=True, check=True).stdout
