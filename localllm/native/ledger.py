"""What a model and its context allocate, per buffer and device, to the byte, as llama.cpp itself counts.

llama.cpp tells this only through a C++ function that returns a `std::map`. On Linux its tree is walked here by the
layout of libstdc++, which has not changed since GCC 3.4; elsewhere `supported()` is False and callers use formulas.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from dataclasses import dataclass
from typing import Any

from localllm.native import devices, lib

_SYMBOL = "_Z26llama_get_memory_breakdownPK13llama_context"


@dataclass(frozen=True)
class BufferUse:
    """Bytes in one kind of buffer. `device` is ggml's name of the device that holds it."""

    buffer: str
    device: str
    kind: str
    weights: int
    kv: int
    compute: int


class _Node(ctypes.Structure):
    """A node of libstdc++'s red-black tree with the map's key and value behind it."""


_Node._fields_ = [
    ("color", ctypes.c_int),
    ("parent", ctypes.POINTER(_Node)),
    ("left", ctypes.POINTER(_Node)),
    ("right", ctypes.POINTER(_Node)),
    ("buffer_type", ctypes.c_void_p),
    ("model", ctypes.c_size_t),
    ("context", ctypes.c_size_t),
    ("compute", ctypes.c_size_t),
]


class _Map(ctypes.Structure):
    """`std::map` of libstdc++: comparator (padded), header node, node count."""

    _fields_ = (
        ("compare", ctypes.c_void_p),
        ("color", ctypes.c_int),
        ("root", ctypes.POINTER(_Node)),
        ("leftmost", ctypes.POINTER(_Node)),
        ("rightmost", ctypes.POINTER(_Node)),
        ("count", ctypes.c_size_t),
    )


@functools.cache
def _functions() -> dict[str, Any] | None:
    if not sys.platform.startswith("linux"):
        return None
    base, pointer = lib.ggml("ggml-base"), ctypes.c_void_p
    try:
        return {
            # Returned by value: libffi passes the hidden pointer as C++ does for a class of this size.
            "breakdown": lib.bind(lib.llama()._lib, _SYMBOL, _Map, pointer),
            "name": lib.bind(base, "ggml_backend_buft_name", ctypes.c_char_p, pointer),
            "device": lib.bind(base, "ggml_backend_buft_get_device", pointer, pointer),
            "is_host": lib.bind(base, "ggml_backend_buft_is_host", ctypes.c_bool, pointer),
        }
    except AttributeError:
        return None


def supported() -> bool:
    """Whether this build and platform let the ledger be read."""
    return _functions() is not None


def read(context: int) -> list[BufferUse]:
    """The buffers of `context` (a `llama_context` pointer) and its model, in no order.

    Host memory of another device (a GPU's pinned buffer, say) counts for the CPU. Call only if `supported()`.
    """
    call = _functions()
    if call is None:
        raise RuntimeError("the ledger cannot be read on this platform")
    # The few nodes that the map owns are not freed: a hundred bytes a load.
    tree = call["breakdown"](context)
    cpu = next((device.name, device.kind) for device in devices.devices() if device.kind == "cpu")
    found: list[BufferUse] = []
    waiting = [tree.root] if tree.count else []
    while waiting:
        node = waiting.pop().contents
        waiting += [child for child in (node.left, node.right) if child]
        owner = call["device"](node.buffer_type)
        device, kind = cpu if call["is_host"](node.buffer_type) or not owner else devices.identify(owner)
        name = call["name"](node.buffer_type).decode()
        found.append(BufferUse(name, device, kind, node.model, node.context, node.compute))
    if len(found) != tree.count:
        raise RuntimeError("the ledger's tree has another layout than expected")
    return found
