"""Two workers, each in a network namespace of its own, and a model split over them: run by a test, under `unshare`.

`python -m tests.runtime.in_namespaces MODEL` prints one JSON document. It needs a network namespace that it may change
and a mount namespace for the names of the two others.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

from localllm.runtime import apart
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY
from tests.workers import worker

BUDGETS = {"small": "50MiB", "large": "100MiB"}


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def connect(name: str, number: int) -> str:
    """A namespace of that name, connected with ours; returns the address of its end."""
    near, far = f"10.77.{number}.1", f"10.77.{number}.2"
    _ip("netns", "add", name)
    _ip("link", "add", f"veth{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("address", "add", f"{near}/30", "dev", f"veth{number}")
    _ip("link", "set", f"veth{number}", "up")
    _ip("-netns", name, "address", "add", f"{far}/30", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-netns", name, "link", "set", device, "up")
    return far


def main(model: Path) -> None:
    """Plan, load and answer."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    _ip("link", "set", "lo", "up")
    with contextlib.ExitStack() as stack:
        endpoints = []
        for number, (name, memory) in enumerate(BUDGETS.items(), 1):
            address = connect(name, number)
            prefix = ("ip", "netns", "exec", name)
            running = worker("--listen", address, "--memory", memory, prefix=prefix)
            endpoints.append(stack.enter_context(running).endpoint)
        options = Options(n_ctx=512, gpu_layers=15, mmap=False, workers=tuple(endpoints))
        plan = apart.plan(model, options)
        with ModelProcess.load(model, options) as remote:
            text = "".join(remote.reply([Message("user", "Name the capital of France.")], sampling=GREEDY))
            took = remote.memory().devices
    sizes = [[(d.worker, d.layers, d.weights, d.kv, d.compute) for d in parts] for parts in (plan.devices, took)]
    print(json.dumps({"endpoints": endpoints, "planned": sizes[0], "took": sizes[1], "text": text}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
