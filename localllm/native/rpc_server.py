"""The other end of a worker: serves a device of this machine to one program at a time, within a budget of memory.

llama.cpp's server tells all memory of a machine as free and allocates whatever it is asked to. Here the device is made
to tell what is truly left, and to refuse what goes beyond the budget.
"""

from __future__ import annotations

import ctypes
import socket
import threading
from collections.abc import Callable
from typing import Any

from localllm.errors import BadWorker
from localllm.native import devices, lib, machine, rpc
from localllm.native.devices import Device

# Places in the interfaces of ggml-backend-impl.h, GGML_BACKEND_API_VERSION 2: `get_memory` of a device, `alloc_buffer`
# of a type of buffers, `free_buffer` of a buffer.
_API_VERSION = 2
_GET_MEMORY, _ALLOCATE, _FREE = 2, 1, 0

_Size = ctypes.POINTER(ctypes.c_size_t)
_GetMemory = ctypes.CFUNCTYPE(None, ctypes.c_void_p, _Size, _Size)
_Allocate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Free = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Budget:
    """Lets clients have no more than `limit` bytes of a device; None is no limit. Lives as long as the process."""

    def __init__(self, device: Device, limit: int | None) -> None:
        self._device, self._limit = device, limit
        self._lock = threading.Lock()
        self._held: dict[int, tuple[int, Any]] = {}  # by buffer: its bytes, and ggml's function that frees it
        base, pointer = lib.ggml("ggml-base"), ctypes.c_void_p
        registry = lib.bind(base, "ggml_backend_dev_backend_reg", pointer, pointer)(device.handle)
        version = ctypes.cast(registry, ctypes.POINTER(ctypes.c_int))[0]
        if version != _API_VERSION:
            raise BadWorker(f"This build's interface of devices has version {version}, not {_API_VERSION}.")
        buffer_type = lib.bind(base, "ggml_backend_dev_buffer_type", pointer, pointer)(device.handle)
        # Kept, or Python would free what C is going to call.
        self._told, self._freed = _GetMemory(self._tell), _Free(self._free)
        self._asked = _Allocate(self._allocate)
        self._get_memory = _GetMemory(_replace(device.handle, _GET_MEMORY, self._told))
        self._allocate_buffer = _Allocate(_replace(buffer_type, _ALLOCATE, self._asked))

    @property
    def used(self) -> int:
        """Bytes that clients hold now."""
        with self._lock:
            return sum(size for size, _ in self._held.values())

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes as clients are told."""
        if self._device.kind == "cpu":
            free, total = machine.system_memory()
        else:
            free_bytes, total_bytes = ctypes.c_size_t(), ctypes.c_size_t()
            self._get_memory(self._device.handle, ctypes.byref(free_bytes), ctypes.byref(total_bytes))
            free, total = free_bytes.value, total_bytes.value
        if self._limit is None:
            return free, total
        return min(free, max(0, self._limit - self.used)), min(total, self._limit)

    # What follows is called from C, by the thread that serves.

    def _tell(self, _device: int, free: Any, total: Any) -> None:
        free[0], total[0] = self.memory()

    def _allocate(self, buffer_type: int, size: int) -> int | None:
        if self._limit is not None and self.used + size > self._limit:
            return None
        buffer: int | None = self._allocate_buffer(buffer_type, size)
        if buffer:
            with self._lock:
                self._held[buffer] = size, _Free(_replace(buffer, _FREE, self._freed))
        return buffer

    def _free(self, buffer: int) -> None:
        with self._lock:
            _, free = self._held.pop(buffer)
        free(buffer)


def _replace(interface: int, place: int, function: Any) -> int:
    """Put `function` into an interface; returns the address of the one that was there."""
    slots = ctypes.cast(interface, ctypes.POINTER(ctypes.c_void_p))
    before: int | None = slots[place]
    slots[place] = ctypes.cast(function, ctypes.c_void_p).value
    if not before:
        raise BadWorker("This device has no function for what a worker must limit.")
    return before


def served_devices() -> list[Device]:
    """What a worker offers: the GPUs of this machine, or its CPU where there is none."""
    present = devices.devices()
    return [device for device in present if device.offloads] or [d for d in present if d.kind == "cpu"]


def serve(
    address: str, port: int, *, threads: int, memory: int | None, ready: Callable[[list[tuple[Device, int]]], None]
) -> None:
    """Serve on the IPv4 `address` and `port` until Ctrl-C. `memory` is the budget of each device in bytes.

    Once it listens, calls `ready` with the devices and how many bytes of each it lends. After Ctrl-C the serving thread
    still runs: end the process at once.

    Raises:
        BadWorker: the address cannot be served on.
        MissingPackage: this build has no RPC backend.
    """
    call, offered = rpc.functions(), served_devices()
    budgets = [Budget(device, memory) for device in offered]
    handles = (ctypes.c_void_p * len(offered))(*(device.handle for device in offered))
    endpoint = f"{address}:{port}".encode()

    def run() -> None:
        call["serve"](endpoint, None, threads, len(offered), handles)

    thread = threading.Thread(target=run, name="worker", daemon=True)
    thread.start()
    while thread.is_alive() and not _listens(address, port):
        thread.join(timeout=0.01)
    if thread.is_alive():
        ready([(device, budget.memory()[0]) for device, budget in zip(offered, budgets, strict=True)])
    thread.join()
    raise BadWorker(f"llama.cpp's server on {address}:{port} ended.", hint="Is another program using that port?")


def _listens(address: str, port: int) -> bool:
    """Whether a socket listens there: only then is the address refused to another that shares it. Nobody is asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return True
    return False
