"""When threads spin long and when briefly, and the crowd of threads by which OpenMP is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from localllm.native import lib, spin
from localllm.native.spin import CHECK_SECONDS, FIRST_PAUSE, LONGEST_PAUSE, LOOKS, NEXT_PAUSE, STEADY_SECONDS, Policy


class Cores:
    """A clock, and cores that are shared or not."""

    def __init__(self) -> None:
        self.policy = Policy()
        self.now = self.waited = 0.0

    def compute(self, seconds: float, *, shared: float) -> float:
        """Compute for so long, threads waiting a part `shared` of the time. Returns how much of it they spun long."""
        long = 0.0
        for _ in range(round(seconds / CHECK_SECONDS)):
            long += CHECK_SECONDS * self.policy.long
            self.now += CHECK_SECONDS
            self.waited += shared * CHECK_SECONDS
            self.policy.judge(self.now, self.waited)
        return long / seconds


def test_free_cores_are_spun_on_after_a_moment() -> None:
    cores = Cores()
    assert cores.compute(FIRST_PAUSE, shared=0) == 0
    cores.compute(2 * CHECK_SECONDS, shared=0)
    assert cores.compute(10, shared=0) == pytest.approx(1)


def test_shared_cores_are_left_alone() -> None:
    assert Cores().compute(60, shared=0.5) == 0


def test_shared_cores_are_left_alone_from_the_first_look_on() -> None:
    cores = Cores()
    cores.now = 1e5  # the clock of a machine that is up for a day
    assert cores.compute(60, shared=0.5) == 0


def test_cores_that_get_shared_are_left_within_three_looks() -> None:
    cores = Cores()
    cores.compute(2 * STEADY_SECONDS, shared=0)
    assert cores.policy.long
    cores.compute(LOOKS * CHECK_SECONDS, shared=0.5)
    assert not cores.policy.long
    assert cores.compute(NEXT_PAUSE - CHECK_SECONDS, shared=0) == 0
    cores.compute(2 * CHECK_SECONDS, shared=0)
    assert cores.policy.long


def test_a_burst_is_sat_out() -> None:
    cores = Cores()
    cores.compute(2 * STEADY_SECONDS, shared=0)
    cores.compute(CHECK_SECONDS, shared=1)
    assert cores.compute(1, shared=0) == pytest.approx(1)


def test_tries_that_fail_get_rare() -> None:
    cores = Cores()
    long = 0.0
    for _ in range(6000):  # cores look free while threads spin briefly, and are not
        long += cores.compute(CHECK_SECONDS, shared=0.5 if cores.policy.long else 0)
    assert long <= 4 + 600 / LONGEST_PAUSE


def test_a_rest_is_no_crowd() -> None:
    cores = Cores()
    cores.compute(1, shared=0)
    cores.now += 3600
    cores.policy.judge(cores.now, cores.waited)
    assert cores.policy.long


@pytest.mark.skipif(spin.waited() is None, reason="the kernel does not tell who waits for a core")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="two threads that wait for each other need two cores")
def test_a_machine_of_many_cpus_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert not lib.spin_switches()
    assert spin.shared.__wrapped__() is None


@pytest.mark.slow
def test_openmp_has_more_threads_than_cpus_while_they_shall_spin_briefly() -> None:
    program = """
import ctypes, json, os, time
os.sched_setaffinity(0, range(os.cpu_count()))
from localllm.native import lib, spin
lib.llama()
cpu = lib.ggml("ggml-cpu")
fork = lib.bind(cpu, "GOMP_parallel", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
team = 2
fork(ctypes.cast(work, ctypes.c_void_p), None, team, 0)  # as a model would compute

def threads():
    return len(os.listdir("/proc/self/task"))

alone = threads()
spins = spin.shared()
spins.begin(team)
found = [threads() - alone]
spins._crowd.leave()
until = time.monotonic() + 20
while threads() > alone and time.monotonic() < until:  # the kernel takes a moment to end them
    time.sleep(0.001)
found.append(threads() - alone)
spins._crowd.gather(team)
found.append(threads() - alone)
print(json.dumps([found, team, int(lib.bind(cpu, "omp_get_num_procs", ctypes.c_int)())]))
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    (gathered, left, again), team, processors = json.loads(done.stdout)
    assert gathered == again
    assert team + gathered > processors
    assert left == 0


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_a_persons_choice_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "passive")
    assert spin.shared.__wrapped__() is None
