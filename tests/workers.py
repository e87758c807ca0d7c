"""Workers for tests: `localllm worker` in a process of its own, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """A worker that serves."""

    endpoint: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def worker(*flags: str, prefix: Sequence[str] = ()) -> Iterator[Running]:
    """`localllm worker` with `flags`, killed at the end; `prefix` is a program that starts it."""
    command = [*prefix, sys.executable, "-m", "localllm", "worker", "--port", "0", "--threads", "1", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            told = [process.stdout.readline(), process.stdout.readline()]
            found = re.search(r"--worker (\S+:\d+)\.", told[-1])
            assert found, told
            yield Running(found[1], process)
        finally:
            process.kill()
