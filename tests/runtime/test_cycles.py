"""Loading and closing leaves nothing behind, whatever was asked in between."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from localllm.native import lib
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from tests.runtime.conftest import GREEDY

CYCLES = 50
GROWTH = 2 << 20
"""Bytes that caches and the fragments of an allocator may keep: 0.3 MB here, while 40 KiB that leaked each time
would be more."""

FOLLOWED = Sampling(grammar='root ::= "yes" | "no"', dry_multiplier=0.5)


def _use(path: Path) -> None:
    """One life of a model: replies of several kinds, one that is left in the middle, and what only reads."""
    with Model.load(path, Options(n_ctx=256)) as model:
        list(model.complete("Once", max_tokens=2))
        list(model.complete("Once", sampling=FOLLOWED, max_tokens=2))
        next(model.complete("Once", sampling=Sampling(logprobs=3)))
        model.embed(["a text"], pooling="mean")
        model.logits([1, 2, 3])


def _resident() -> int:
    """Bytes that only this process has, without those of files, which other programs may push out and bring back."""
    gc.collect()
    lib.give_memory_back()
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def _resident_after_use(path: Path) -> int:
    _use(path)
    return _resident()


def _threads() -> list[str]:
    """All but the one thread of the process that keeps OpenMP's from spinning: it comes and goes with the load."""
    return [thread.name for thread in threading.enumerate() if thread.name != "spin"]


def _cycles(path: Path) -> tuple[int, int, list[str]]:
    """Of fifty lives: (bytes that stay, how many more files are open, threads that stay)."""
    # What is made once and kept, backends and caches, and what an allocator happens to keep from one time to the next.
    before = max(_resident_after_use(path) for _ in range(5))
    files, threads = psutil.Process().num_fds(), _threads()
    after = [_resident_after_use(path) for _ in range(CYCLES)]
    grown = min(after[-5:]) - before
    return grown, psutil.Process().num_fds() - files, [name for name in _threads() if name not in threads]


@pytest.mark.slow
def test_fifty_times_loaded_and_closed(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Left to itself, glibc takes ever larger blocks from the heap, which then ends 8, 16 or 24 MB higher by chance.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    # In a process of its own: what other tests left here would come and go meanwhile.
    with ProcessPoolExecutor(1, get_context("spawn")) as own:
        grown, files, threads = own.submit(_cycles, smollm2).result()
    assert (grown < GROWTH, files <= 0, threads) == (True, True, []), grown


@pytest.mark.slow
def test_a_model_that_nobody_holds_is_freed(smollm2: Path) -> None:
    model = Model.load(smollm2, Options(n_ctx=256))
    handle, context = model._handle, model._writer()._context
    reply = model.complete("The capital of France is", sampling=GREEDY, max_tokens=1)
    del model
    gc.collect()
    assert "".join(reply) == " Paris"  # who waits for an answer holds it
    del reply
    gc.collect()
    assert (handle.pointer, context.pointer) == (None, None)
