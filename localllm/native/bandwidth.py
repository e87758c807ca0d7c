"""How fast a device reads its memory: timed on a matrix times a vector, which is what writing one token mostly is."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import Iterator
from typing import Any

from localllm.errors import DoesNotFit
from localllm.native import lib
from localllm.native.devices import Device

LARGEST, SMALLEST = 1 << 30, 64 << 20
"""Bytes of the matrix: larger than a cache, but no more than a quarter of what is free."""

_COLUMNS, _SECONDS = 4096, 1.0
_FLOAT32 = 0  # GGML_TYPE_F32 of ggml.h


class _InitParams(ctypes.Structure):
    """`struct ggml_init_params` of ggml.h."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


@functools.cache
def _functions() -> dict[str, Any]:
    lib.llama()
    base, pointer, size, number = lib.ggml("ggml-base"), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
    return {
        "init": lib.bind(base, "ggml_init", pointer, _InitParams),
        "free": lib.bind(base, "ggml_free", None, pointer),
        "tensor_overhead": lib.bind(base, "ggml_tensor_overhead", size),
        "graph_overhead": lib.bind(base, "ggml_graph_overhead", size),
        "new_tensor": lib.bind(base, "ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, number, number),
        "mul_mat": lib.bind(base, "ggml_mul_mat", pointer, pointer, pointer, pointer),
        "new_graph": lib.bind(base, "ggml_new_graph", pointer, pointer),
        "expand": lib.bind(base, "ggml_build_forward_expand", None, pointer, pointer),
        "backend": lib.bind(base, "ggml_backend_dev_init", pointer, pointer, ctypes.c_char_p),
        "free_backend": lib.bind(base, "ggml_backend_free", None, pointer),
        "allocate": lib.bind(base, "ggml_backend_alloc_ctx_tensors", pointer, pointer, pointer),
        "clear": lib.bind(base, "ggml_backend_buffer_clear", None, pointer, ctypes.c_uint8),
        "free_buffer": lib.bind(base, "ggml_backend_buffer_free", None, pointer),
        "compute": lib.bind(base, "ggml_backend_graph_compute", ctypes.c_int, pointer, pointer),
        "registry": lib.bind(base, "ggml_backend_dev_backend_reg", pointer, pointer),
        "address": lib.bind(base, "ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p),
    }


def measure(device: Device, threads: int) -> float:
    """Bytes read a second, the best of the passes that about a second has room for. `threads` count on a CPU.

    Raises:
        DoesNotFit: there is no room for a matrix that is larger than a cache.
    """
    size = min(LARGEST, device.free // 4)
    if size < SMALLEST:
        raise DoesNotFit(
            f"{device.name} has {device.free >> 20:,} MiB free, too little to measure its bandwidth.",
            hint="Close other programs and try again.",
        )
    rows = size // (4 * _COLUMNS)
    call = _functions()
    with _backend(device, threads) as backend, _graph(backend, device, rows) as graph:
        call["compute"](backend, graph)
        best, end = float("inf"), time.perf_counter() + _SECONDS
        while (start := time.perf_counter()) < end:
            call["compute"](backend, graph)
            best = min(best, time.perf_counter() - start)
    return rows * _COLUMNS * 4 / best


@contextlib.contextmanager
def _backend(device: Device, threads: int) -> Iterator[int]:
    call = _functions()
    backend = call["backend"](device.handle, None)
    if not backend:
        raise DoesNotFit(f"{device.name} does not start.", hint="Another program may use all of it.")
    try:
        address = call["address"](call["registry"](device.handle), b"ggml_backend_set_n_threads")
        if address:
            ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(address)(backend, threads)
        yield backend
    finally:
        call["free_backend"](backend)


@contextlib.contextmanager
def _graph(backend: int, device: Device, rows: int) -> Iterator[int]:
    """A float32 matrix of `rows` by `_COLUMNS` on the device, and the graph that multiplies it with a vector."""
    call = _functions()
    context = call["init"](_InitParams(4 * call["tensor_overhead"]() + call["graph_overhead"](), None, True))
    buffer = None
    try:
        matrix = call["new_tensor"](context, _FLOAT32, _COLUMNS, rows)
        vector = call["new_tensor"](context, _FLOAT32, _COLUMNS, 1)
        graph = call["new_graph"](context)
        call["expand"](graph, call["mul_mat"](context, matrix, vector))
        buffer = call["allocate"](context, backend)
        if not buffer:
            raise DoesNotFit(f"{device.name} has no room to measure its bandwidth.", hint="Close other programs.")
        call["clear"](buffer, 0)  # pages that were never written would all be read from one
        yield graph
    finally:
        if buffer:
            call["free_buffer"](buffer)
        call["free"](context)
