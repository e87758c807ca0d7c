#!/usr/bin/env python3
"""Measures `localllm pull` over the loopback beside `curl` from the same server, in turns.

    tools/bench_pull.py WORKDIR [--megabytes 1000] [--rounds 5]

The hub of the tests serves a GGUF of random bytes from a process of its own, on the same cores. Both clients ask the
hub, are sent on to its store, and write to WORKDIR; pull hashes the file as well, and is measured with the start of
Python. SHA-256 of as many bytes in memory is timed beside them: what curl does not do.

A virtual machine may give free memory back to its host some seconds after it was freed (free page reporting); then the
first write of a page takes ten times as long. So the memory for the file is touched just before each run.
The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from localllm.convert.header import lay_out, text

ROOT = Path(__file__).resolve().parent.parent
REPORTED = 2.5
"""Seconds after which free memory may be the host's; Linux waits two."""

REPO, FILE = "org/random-GGUF", "random-F32.gguf"
SERVE = """
import sys
from pathlib import Path
from tests.library.hub_server import hub_server
with hub_server() as hub:
    hub.add(sys.argv[1], Path(sys.argv[2]))
    print(hub.url, flush=True)
    sys.stdin.read()
"""


def write_model(path: Path, megabytes: int) -> None:
    """A GGUF with one matrix of random numbers."""
    layout = lay_out({"general.architecture": text("llama")}, [("token_embd.weight", (250, megabytes * 1000), "F32")])
    with path.open("wb") as file:
        file.write(layout.header)
        while (left := layout.file_bytes - file.tell()) > 0:
            file.write(os.urandom(min(left, 1 << 24)))


def timed(command: Sequence[str]) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def touch_memory(workdir: Path, size: int) -> None:
    """Leave so many bytes of free memory that the host backs, for the next two seconds at least: those of a file."""
    time.sleep(REPORTED)  # what was freed before is reported first
    piece, path = bytes(1 << 20), workdir / "touched"
    with path.open("wb") as file:
        for _ in range(0, size, len(piece)):
            file.write(piece)
    path.unlink()


def hashed(size: int) -> float:
    """Seconds that SHA-256 takes of so many bytes in memory."""
    piece, digest = bytes(1 << 20), hashlib.sha256()
    start = time.perf_counter()
    for _ in range(size // len(piece)):
        digest.update(piece)
    return time.perf_counter() - start


def compare(workdir: Path, url: str, rounds: int) -> dict[str, list[float]]:
    """The seconds of each way, round by round."""
    source, copy, cache = workdir / "repo" / FILE, workdir / "curl.gguf", workdir / "hf"
    commands = {
        "curl": [
            "curl",
            "--silent",
            "--fail",
            "--location",
            "--output",
            str(copy),
            f"{url}/{REPO}/resolve/main/{FILE}",
        ],
        "pull": [sys.executable, "-m", "localllm", "pull", f"{REPO}/{FILE}"],
    }
    size = source.stat().st_size
    seconds: dict[str, list[float]] = {name: [] for name in (*commands, "sha256")}
    for _ in range(rounds):
        for name, command in commands.items():
            shutil.rmtree(cache, ignore_errors=True)
            copy.unlink(missing_ok=True)
            os.sync()
            touch_memory(workdir, 2 * size)
            seconds[name].append(timed(command))
        seconds["sha256"].append(hashed(size))
        found = next((cache / "hub").rglob(FILE), None)
        print("  ".join(f"{name} {times[-1]:.2f} s" for name, times in seconds.items()), found or "", file=sys.stderr)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    folder = args.workdir / "repo"
    folder.mkdir(parents=True, exist_ok=True)
    write_model(folder / FILE, args.megabytes)
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["HF_HOME"] = str(args.workdir / "hf")
    command = [sys.executable, "-c", SERVE, REPO, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()
        timed(["curl", "--silent", f"{url}/api/models/{REPO}?blobs=true"])  # the server hashes the file once
        seconds = compare(args.workdir, url, args.rounds)
        server.terminate()
    size = (folder / FILE).stat().st_size
    best = {name: statistics.median(times) for name, times in seconds.items()}
    for name, took in best.items():
        print(f"{name:10} {took:6.2f} s, {size / took / 1e6:7.0f} MB/s")
    ratio = round(best["curl"] / best["pull"], 3)
    print(json.dumps({"bytes": size, "seconds": seconds, "median": best, "ratio": ratio}))


if __name__ == "__main__":
    main()
