"""The devices ggml sees, and how much memory each has left.

The CPU's numbers do not come from ggml, which reports all memory as free and knows no cgroup: see `machine`.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.native import lib, machine, rpc

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
        free, total = machine.system_memory()
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
