"""What this process may use of the machine: memory and CPUs, lowered to the limits of the cgroups it runs in.

Knows no devices and no llama.cpp.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path


def system_memory() -> tuple[int, int]:
    """Available and total RAM in bytes, as far as this process may use it."""
    available, total = _ram()
    for limit, used in _cgroup_limits():
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return available, total


def _ram(meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """Available and total RAM in bytes of the machine. Source: `MemAvailable` and `MemTotal`, proc(5).

    Linux is asked directly: psutil says the same, and takes longer to import than all else that a load of a model needs
    before its weights are read.
    """
    available, total = (1024 * _stat(meminfo, name) for name in ("MemAvailable:", "MemTotal:"))
    if available and total:
        return available, total
    import psutil

    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _cgroup_limits() -> list[tuple[int, int]]:
    """(limit, used) in bytes of every cgroup above this process; empty outside Linux. Page cache is not `used`."""
    limits = []
    for folder in _cgroup_folders():
        for limit_name, used_name, cache_key in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _read_number(folder / limit_name)
            used = _read_number(folder / used_name)
            if limit is not None and used is not None:
                limits.append((limit, max(0, used - _stat(folder / "memory.stat", cache_key))))
    return limits


@functools.cache
def _cgroup_folders() -> tuple[Path, ...]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ()
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") / ("memory" if controllers else "")
        leaf = root / path.lstrip("/")
        folders += [folder for folder in (leaf, *leaf.parents) if folder == root or root in folder.parents]
    return tuple(folders)


def _read_number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _stat(path: Path, key: str) -> int:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next((int(words[1]) for words in pairs if words[:1] == [key]), 0)
    except OSError:
        return 0


@dataclass(frozen=True)
class Limits:
    """What this process may use of the machine.

    `allowed_cpus` counts its affinity, `physical_cores` the cores that these CPUs are parts of. `cpu_quota` is in CPUs
    and `memory` in bytes: the lowest limits of its cgroups, None where there is none that matters.
    """

    physical_cores: int
    allowed_cpus: int
    cpu_quota: float | None
    memory: int | None


def limits() -> Limits:
    """The limits of this process now."""
    logical = os.cpu_count() or 1
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(logical))
    quotas = [quota for folder in _cpu_cgroup_folders() if (quota := _cpu_quota(folder)) is not None]
    _, total = _ram()
    memory = [limit for limit, _ in _cgroup_limits() if limit < total]
    return Limits(_physical_cores(cpus), len(cpus), min(quotas, default=None), min(memory, default=None))


def _physical_cores(cpus: set[int], topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """How many cores the logical `cpus` are parts of; two hyperthreads of one core do not compute twice as fast."""
    names = ("physical_package_id", "core_id")
    try:
        return len({tuple((topology / f"cpu{cpu}/topology" / name).read_text() for name in names) for cpu in cpus})
    except OSError:
        import psutil

        return min(psutil.cpu_count(logical=False) or len(cpus), len(cpus))


def usable_threads() -> int:
    """The physical cores that this process may run on, no more than its cgroup's CPU quota pays for; at least 1."""
    found = limits()
    quota = found.physical_cores if found.cpu_quota is None else int(found.cpu_quota)
    return max(1, min(found.physical_cores, quota))


def _cpu_cgroup_folders() -> tuple[Path, ...]:
    root = Path("/sys/fs/cgroup")
    return (*_cgroup_folders(), root / "cpu", root / "cpu,cpuacct")


def _cpu_quota(folder: Path) -> float | None:
    """CPUs that the group's quota pays for: `cpu.max` of cgroup v2, `cpu.cfs_*` of v1."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    quota_us = _read_number(folder / "cpu.cfs_quota_us")
    period_us = _read_number(folder / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us and period_us else None
