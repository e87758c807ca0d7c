"""The devices ggml sees, how much memory each has left, and what this process may use of the processor.

The CPU's numbers do not come from ggml, which reports all memory as free and knows no cgroup: they come from the
operating system, lowered to the limit of the cgroup this process runs in.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from localllm.native import lib, rpc

# enum ggml_backend_dev_type of ggml-backend.h
KINDS = ("cpu", "gpu", "igpu", "accel", "meta")


@dataclass(frozen=True)
class Device:
    """One device. `free` and `total` in bytes; `handle` is ggml's pointer. A worker's `description` is HOST:PORT."""

    name: str
    description: str
    kind: str
    free: int
    total: int
    handle: int

    @property
    def offloads(self) -> bool:
        """Whether llama.cpp puts layers on it."""
        return self.kind in ("worker", "gpu", "igpu")


class _Caps(ctypes.Structure):
    """`struct ggml_backend_dev_caps` of ggml-backend.h."""

    _fields_ = tuple((name, ctypes.c_bool) for name in ("asynchronous", "host_buffer", "from_host", "events", "mmap"))


class _Props(ctypes.Structure):
    """`struct ggml_backend_dev_props` of ggml-backend.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("id", ctypes.c_char_p),
        ("caps", _Caps),
    )


@functools.cache
def _functions() -> dict[str, Any]:
    lib.llama()
    registry, base = lib.ggml("ggml"), lib.ggml("ggml-base")
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    return {
        "count": lib.bind(registry, "ggml_backend_dev_count", size),
        "get": lib.bind(registry, "ggml_backend_dev_get", pointer, size),
        "name": lib.bind(base, "ggml_backend_dev_name", ctypes.c_char_p, pointer),
        "description": lib.bind(base, "ggml_backend_dev_description", ctypes.c_char_p, pointer),
        "type": lib.bind(base, "ggml_backend_dev_type", ctypes.c_int, pointer),
        "memory": lib.bind(base, "ggml_backend_dev_memory", None, pointer, ctypes.POINTER(size), ctypes.POINTER(size)),
        "props": lib.bind(base, "ggml_backend_dev_get_props", None, pointer, ctypes.POINTER(_Props)),
        "registry": lib.bind(base, "ggml_backend_dev_backend_reg", pointer, pointer),
        "registry_name": lib.bind(base, "ggml_backend_reg_name", ctypes.c_char_p, pointer),
    }


_assumed: contextvars.ContextVar[tuple[Device, ...]] = contextvars.ContextVar("assumed devices", default=())


@contextlib.contextmanager
def assumed(machine: Sequence[Device]) -> Iterator[None]:
    """Inside the block `devices()` are those of another machine, with handle 0: for plans, nothing runs on them."""
    token = _assumed.set(tuple(machine))
    try:
        yield
    finally:
        _assumed.reset(token)


def are_assumed() -> bool:
    """Whether `devices()` are those of another machine."""
    return bool(_assumed.get())


def devices(workers: Sequence[str] = ()) -> list[Device]:
    """Every device with its memory now: those of the `workers` (HOST:PORT) first, the CPU last.

    Raises:
        BadWorker, MissingPackage: a worker cannot be used.
    """
    if _assumed.get():
        return list(_assumed.get())
    call = _functions()
    remote = [describe(handle) for worker in workers for handle in rpc.connect(worker)]
    found = [describe(call["get"](index)) for index in range(call["count"]())]
    return remote + sorted(found, key=lambda device: device.kind == "cpu")


def offload_devices(present: Sequence[Device]) -> list[Device]:
    """The devices that layers are split over, in llama.cpp's order: the first of them runs the first of these layers.

    As llama.cpp chooses them: a GPU that two backends see counts once, and a GPU that shares the CPU's memory only
    where there is no other.
    """
    ids: set[bytes] = set()
    gpus = []
    for device in present:
        props = _Props()
        if device.kind == "gpu" and device.handle:
            _functions()["props"](device.handle, ctypes.byref(props))
        if device.kind == "gpu" and props.id not in ids:
            gpus.append(device)
            ids |= {props.id} if props.id else set()
    shared = [] if gpus else [device for device in present if device.kind == "igpu"]
    return [device for device in present if device.kind == "worker"] + (gpus or shared)


def identify(handle: int) -> tuple[str, str]:
    """(name, kind) of the device behind one of ggml's pointers."""
    call = _functions()
    kind = KINDS[call["type"](handle)]
    remote = kind == "gpu" and call["registry_name"](call["registry"](handle)) == b"RPC"
    return call["name"](handle).decode(), "worker" if remote else kind


def describe(handle: int) -> Device:
    """The device behind one of ggml's pointers, with its memory now."""
    call = _functions()
    name, kind = identify(handle)
    if kind == "cpu":
        free, total = system_memory()
    else:
        free_bytes, total_bytes = ctypes.c_size_t(), ctypes.c_size_t()
        call["memory"](handle, ctypes.byref(free_bytes), ctypes.byref(total_bytes))
        free, total = free_bytes.value, total_bytes.value
    return Device(
        name=name,
        description=call["description"](handle).decode(),
        kind=kind,
        free=free,
        total=total,
        handle=handle,
    )


def backends() -> list[str]:
    """The backends of ggml that this build has, such as `CPU`, `CUDA` and `RPC`, with or without a device."""
    lib.llama()
    registry, base = lib.ggml("ggml"), lib.ggml("ggml-base")
    count = lib.bind(registry, "ggml_backend_reg_count", ctypes.c_size_t)()
    get = lib.bind(registry, "ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    name = lib.bind(base, "ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    return [name(get(index)).decode() for index in range(count)]


def cpu_features() -> list[str]:
    """What of the processor ggml's kernels use, such as `AVX2` and `AMX_INT8`."""
    found, backend = [], ""
    for part in lib.llama().llama_print_system_info().decode().split("|"):
        name, _, value = part.partition(" = ")
        if " : " in name:  # the first of a backend's features
            backend, _, name = name.partition(" : ")
        if backend.strip() == "CPU" and value.strip() == "1":
            found.append(name.strip())
    return found


@functools.cache
def has_matrix_unit() -> bool:
    """Whether llama.cpp uses the processor's matrix unit (AMX), and so copies weights into an order of its own."""
    return "AMX_INT8" in cpu_features()


def system_memory() -> tuple[int, int]:
    """Available and total RAM in bytes, as far as this process may use it."""
    memory = psutil.virtual_memory()
    available, total = memory.available, memory.total
    for limit, used in _cgroup_limits():
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return available, total


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
        return next((int(value) for name, value in pairs if name == key), 0)
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
    total = psutil.virtual_memory().total
    memory = [limit for limit, _ in _cgroup_limits() if limit < total]
    return Limits(_physical_cores(cpus), len(cpus), min(quotas, default=None), min(memory, default=None))


def _physical_cores(cpus: set[int], topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """How many cores the logical `cpus` are parts of; two hyperthreads of one core do not compute twice as fast."""
    names = ("physical_package_id", "core_id")
    try:
        return len({tuple((topology / f"cpu{cpu}/topology" / name).read_text() for name in names) for cpu in cpus})
    except OSError:
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
