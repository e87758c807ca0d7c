"""A long command: its output is kept, its steps are shown, and it ends as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from installer.progress import clock, run_logged

ROOT = Path(__file__).resolve().parents[2]


def test_output_goes_to_the_log_and_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "install.log"
    code, lines = run_logged(["/bin/sh", "-c", "echo one; echo two >&2; exit 3"], log, "it", dict(os.environ))
    assert code == 3
    assert sorted(lines) == ["one", "two"]
    assert "one\n" in log.read_text()


@pytest.mark.slow
def test_steps_are_shown_on_a_terminal(tmp_path: Path) -> None:
    code = (
        "import os\nfrom pathlib import Path\nfrom installer.progress import run_logged\n"
        "command = ['/bin/sh', '-c', 'echo \"  [57/197] c++ -o ggml.o\"; sleep 1.2']\n"
        f"run_logged(command, Path({str(tmp_path / 'log')!r}), 'llama-cpp-python', dict(os.environ))"
    )
    leader, follower = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tools")}
    subprocess.run([sys.executable, "-c", code], stdout=follower, env=environment, check=True)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    os.close(follower)
    assert "llama-cpp-python: compiling [57/197], 0:0" in shown


def test_ctrl_c_ends_the_command_with_what_it_started(tmp_path: Path) -> None:
    pid_file, log = tmp_path / "pid", tmp_path / "log"
    code = (
        "import os\nfrom pathlib import Path\nfrom installer.progress import run_logged\n"
        f"command = ['/bin/sh', '-c', 'sleep 300 & echo $! > {pid_file}; wait']\n"
        f"run_logged(command, Path({str(log)!r}), 'it', dict(os.environ))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tools")}
    deadline = time.monotonic() + 20
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL) as process:
        # The log is opened once the command is watched: on one core it may run well before.
        while not (log.exists() and pid_file.exists() and pid_file.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
    grandchild = int(pid_file.read_text())
    while running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(grandchild)


def running(pid: int) -> bool:
    """Whether the process does anything: a zombie that nobody collects is over, too."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip() not in ("", "Z")


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 7.9, 187)] == ["0:00", "0:07", "3:07"]
