"""Models of any size for the tests of pulling, and what several of them do."""

from __future__ import annotations

import math
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from localllm.convert.header import lay_out, text
from localllm.library import pulling
from localllm.library.pulling import Pulled
from tests.library.hub_server import HubServer


def model(size: int = 100_000, seed: int = 0) -> bytes:
    """A GGUF of at least so many bytes, mostly random weights."""
    metadata = {"general.architecture": text("llama"), "general.name": text(f"random {seed}")}
    layout = lay_out(metadata, [("token_embd.weight", (256, size // 1024 + 1), "F32")])
    return layout.header + random.Random(seed).randbytes(layout.file_bytes - len(layout.header))


def put_models(folder: Path, *names: str, size: int = 100_000) -> Path:
    """A folder with models of these names, each another one."""
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model(size, number))
    return folder


def pull(name: str, type: str | None = None, said: list[str] | None = None) -> Pulled:
    remark = said.append if said is not None else None
    return pulling.look_up(name, type=type, remark=remark).fetch(lambda _done, _total: None)


def interrupt(name: str, after: int) -> None:
    """Pull, and be interrupted when so many bytes are there."""

    def stop(done: int, total: int) -> None:
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pulling.look_up(name).fetch(stop)


def unfinished(folder: Path) -> list[Path]:
    """What downloads that are not whole have left below a folder."""
    return [path for path in folder.rglob(".*") if path.suffix in (".download", ".arrived")]


def blocks_noted(folder: Path) -> int:
    """How many blocks have arrived of downloads below a folder that are not whole."""
    notes = [path.read_bytes() for path in unfinished(folder) if path.suffix == ".arrived"]
    return sum(note.partition(b"\n")[2].count(1) for note in notes)


@contextmanager
def stopped_after(
    count: int, hub: HubServer, command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """A process that pulls, when the hub has sent so many bytes and sends no more until the block ends."""
    hub.faults.hang_after = hub.sent + count
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None and (hub.sent < hub.faults.hang_after or blocks_noted(folder) < 2):
            time.sleep(0.005)
        yield child
        hub.faults.hang_after = math.inf
        child.wait(60)
