"""Runs a long command: its output goes to a log file, and one line on the screen tells how far it is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

_STEP = re.compile(r"\[(\d+)/(\d+)\]")
_PHASES = (
    ("Collecting ", "looking up"),
    ("Downloading ", "downloading"),
    ("Installing build dependencies", "getting the build tools"),
    ("Preparing metadata", "configuring"),
    ("Building wheel", "configuring"),
    ("Installing collected packages", "installing"),
)


class _Meter:
    """What the lines so far say about the progress, shown in place on a terminal and now and then elsewhere."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.phase = "starting"
        self.start = time.monotonic()
        self.live = sys.stdout.isatty()
        self.next = 0.0 if self.live else 30.0

    def feed(self, line: str) -> None:
        step = _STEP.search(line)
        if step:
            self.phase = f"compiling [{step[1]}/{step[2]}]"
            return
        for mark, phase in _PHASES:
            if line.lstrip().startswith(mark):
                self.phase = phase

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def show(self) -> None:
        if self.seconds() < self.next:
            return
        text = f"  {self.label}: {self.phase}, {clock(self.seconds())}"
        self.next = self.seconds() + (0.5 if self.live else 30)
        print(f"\r\033[K{text}" if self.live else text, end="" if self.live else "\n", flush=True)

    def clear(self) -> None:
        if self.live:
            print("\r\033[K", end="", flush=True)


def say(text: str) -> None:
    """Print a line; on a terminal that is narrower it breaks between words, not within them."""
    if sys.stdout.isatty():
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    print(text, flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds: `3:07`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def run_logged(command: list[str], log: Path, label: str, environment: dict[str, str]) -> tuple[int, list[str]]:
    """Run `command`, append its output to `log`, show progress. Returns the exit code and the lines.

    Ctrl-C ends the command with everything that it started.
    """
    meter = _Meter(label)
    lines: list[str] = []
    # Unbuffered, so that a step is shown when it begins; in a session of its own, so that it can be ended as a whole.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment | {"PYTHONUNBUFFERED": "1", "PIP_NO_INPUT": "1"},
        start_new_session=True,
    ) as process:

        def read() -> None:
            assert process.stdout is not None
            with log.open("a", encoding="utf-8") as stream:
                stream.write(f"\n$ {' '.join(command)}\n")
                for line in process.stdout:
                    stream.write(line)
                    lines.append(line.rstrip())
                    meter.feed(line)

        reader = threading.Thread(target=read, daemon=True)
        try:
            reader.start()
            while reader.is_alive():
                meter.show()
                reader.join(0.5)
        except BaseException:
            _end(process)
            raise
        finally:
            meter.clear()
    return process.returncode, lines


def _end(process: subprocess.Popen[str]) -> None:
    """End the process and what it started: politely, so that pip removes its build folder and ninja its compilers."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(10)
    # What ignored that, or has outlived the process.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
