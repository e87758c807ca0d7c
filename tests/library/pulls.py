"""Models of any size for the tests of pulling, and what several of them do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from localllm.convert.header import lay_out, text
from localllm.library import pulling
from localllm.library.pulling import Pulled


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
