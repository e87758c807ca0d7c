"""Imports numpy beside llama.cpp: late, for most replies have no use for its 12 MiB, and so that it keeps quiet."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def blas_that_sleeps() -> Iterator[None]:
    """Where numpy is imported in this block, its OpenBLAS gets threads that spin for 2^20 cycles of the processor when
    they have nothing to do, half a millisecond, unless somebody chose how long. Its own time, a hundred times as long
    and from when it is loaded on, takes a core from llama.cpp.

    OpenBLAS reads the variable once. It is set and removed while no other thread of ours reads the environment.
    """
    name = "OPENBLAS_THREAD_TIMEOUT"
    if name in os.environ or "numpy" in sys.modules:
        yield
        return
    os.environ[name] = "20"
    try:
        yield
    finally:
        os.environ.pop(name, None)
