"""How long OpenMP's threads spin while they wait for each other: long while cores are free, briefly while they are not.

They wait hundreds of times a token. Spinning is fastest while each has a core; as soon as anything else wants the
cores, a thread that spins burns the time slice that the one it waits for needs. docs/experiments.md has the figures.

libgomp reads its two spin counts once, when it is loaded. It takes the short one while it manages more threads than
there are CPUs: so a team of threads that sleep makes all others spin briefly, and when it ends they spin long again.
The kernel tells how long our threads were ready to run and had no core.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import time
from collections import deque
from typing import Any

from localllm.native import lib

CHECK_SECONDS = 0.1
"""How often it is looked whether the cores are shared."""

CROWDED = 0.45
"""Seconds that all our threads together waited for a core, a second, from which on cores count as shared: on free cores
it was up to 0.08, beside an app that draws the reply up to 0.4, beside one busy process from 0.7 on."""

LOOKS = 3
"""Over the time since so many looks it is judged: an app that begins to draw a reply wants a core for 0.1 s, and no
longer."""

FIRST_PAUSE, NEXT_PAUSE, LONGEST_PAUSE = 0.1, 0.5, 8.0
"""Seconds of spinning briefly before spinning long is tried: at first, after it failed, and after it always failed."""

STEADY_SECONDS = 10.0
"""Spinning long for so long was no failed try."""

_TASKS = "/proc/self/task"


def waited() -> float | None:
    """Seconds that the threads of this process were ready to run and had no core; None where nobody tells.

    Source: the second number of `/proc/PID/task/TID/schedstat`, Documentation/scheduler/sched-stats of Linux.
    """
    try:
        total = 0
        with os.scandir(_TASKS) as tasks:  # not pathlib, which takes three times as long, ten times a second
            for task in tasks:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                    file = os.open(f"{task.path}/schedstat", os.O_RDONLY)
                    try:
                        total += int(os.read(file, 100).split()[1])
                    finally:
                        os.close(file)
    except (OSError, IndexError, ValueError):
        return None
    return total / 1e9


class Policy:
    """Whether to spin long, by how long threads waited for cores. Knows no threads."""

    def __init__(self) -> None:
        self.long = False
        self._pause = FIRST_PAUSE
        self._changed: float | None = None  # when it last changed its mind
        self._looks: deque[tuple[float, float]] = deque(maxlen=LOOKS)

    def judge(self, now: float, waited: float) -> bool:
        """Whether to spin long from `now` on, when threads have waited for cores for `waited` seconds up to now."""
        then, waited_then = self._looks[0] if self._looks else (now, waited)
        share = (waited - waited_then) / max(now - then, 1e-9)
        self._looks.append((now, waited))
        if self._changed is None:
            self._changed = now
        elif self.long:
            if share > CROWDED:
                steady = now - self._changed > STEADY_SECONDS
                self._pause = NEXT_PAUSE if steady else min(max(2 * self._pause, NEXT_PAUSE), LONGEST_PAUSE)
                self._change(now, waited)
        elif share <= CROWDED and now - self._changed >= self._pause:
            self._change(now, waited)
        return self.long

    def _change(self, now: float, waited: float) -> None:
        self.long, self._changed = not self.long, now
        self._looks.clear()  # a try that fails ends with the first look
        self._looks.append((now, waited))


class _Crowd:
    """OpenMP threads that sleep, so many that libgomp has more of them than CPUs once a model uses `threads`."""

    def __init__(self, gomp: Any) -> None:
        self._fork = lib.bind(
            gomp, "GOMP_parallel", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint
        )
        self._processors = int(lib.bind(gomp, "omp_get_num_procs", ctypes.c_int)())
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def gather(self, threads: int) -> None:
        ready, self._over = threading.Event(), threading.Event()
        count = max(2, self._processors - threads + 2)
        self._thread = threading.Thread(target=self._sleep, args=(count, ready, self._over), name="spin", daemon=True)
        self._thread.start()
        ready.wait()

    def leave(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _sleep(self, count: int, ready: threading.Event, over: threading.Event) -> None:
        # Each of them runs strlen once; then they wait for more work as long as the thread that made them is there.
        text = ctypes.create_string_buffer(1)
        self._fork(ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p), ctypes.addressof(text), count, 0)
        ready.set()
        over.wait()


class Spin:
    """Makes OpenMP's threads of this process spin as the policy says."""

    def __init__(self, crowd: _Crowd) -> None:
        self._crowd, self._policy = crowd, Policy()
        self._lock = threading.Lock()
        self._threads = 1 << 16
        self._next = 0.0

    @property
    def long(self) -> bool:
        """Whether they spin long now."""
        return self._policy.long

    def begin(self, threads: int) -> None:
        """A context computes with `threads` from now on."""
        with self._lock:
            if threads < self._threads:
                self._threads = threads
                if not self.long:
                    self._crowd.leave()
                    self._crowd.gather(threads)

    def watch(self) -> None:
        """Look whether the cores are shared, if it is time to; for who computes to call between its steps."""
        now = time.perf_counter()
        if now < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            self._next, before = now + CHECK_SECONDS, self.long
            seconds = waited()
            if seconds is None or self._policy.judge(now, seconds) == before:
                return
            if before:
                self._crowd.gather(self._threads)
            else:
                self._crowd.leave()
        finally:
            self._lock.release()


@functools.cache
def shared() -> Spin | None:
    """The one of this process; None where threads are not libgomp's, or somebody chose how they spin."""
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return None
    if not lib.spin_switches() or waited() is None:
        return None
    try:
        cpu = lib.ggml("ggml-cpu")
        if hasattr(cpu, "__kmpc_fork_call"):  # LLVM's OpenMP answers to the names of libgomp, too
            return None
        return Spin(_Crowd(cpu))
    except (AttributeError, FileNotFoundError):
        return None


def begin(threads: int) -> None:
    """Before a context computes with `threads`."""
    spin = shared()
    if spin is not None:
        spin.begin(threads)


def watch() -> None:
    """Between the steps of who computes."""
    spin = shared()
    if spin is not None:
        spin.watch()
