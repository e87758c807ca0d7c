"""The tokens that samplers choose from, with their logits: a `llama_token_data_array` that numpy sees too."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.native import lib

# `llama_token_data` of llama.h.
_ENTRY = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


def logits_at(context: Any, index: int, n_vocab: int) -> NDArray[np.float32]:
    """The logits of the token at `index` of the batch that was decoded last: float32 [n_vocab].

    A view of llama.cpp's memory, gone with the next decode.
    """
    return _view(_getter()(context, index), n_vocab)


@functools.cache
def _getter() -> Any:
    """`llama_get_logits_ith` that returns an address: the one of the bindings makes an object of each pointer."""
    return lib.bind(lib.llama()._lib, "llama_get_logits_ith", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)


@functools.lru_cache(maxsize=64)
def _view(address: int, count: int) -> NDArray[np.float32]:
    """What stands at an address, whatever that is now: llama.cpp puts the logits at the same few again and again."""
    return np.frombuffer(memoryview((ctypes.c_float * count).from_address(address)), np.float32)


class Candidates:
    """`logits` float32 [n] of the `tokens` int32 [n]; by default of all tokens in their order. Copies both."""

    def __init__(self, logits: NDArray[np.float32], tokens: NDArray[np.int32] | None = None) -> None:
        bindings = lib.llama()
        self._entries = np.zeros(len(logits), _ENTRY)
        self._entries["id"] = np.arange(len(logits)) if tokens is None else tokens
        self._entries["logit"] = logits
        data = self._entries.ctypes.data_as(ctypes.POINTER(bindings.llama_token_data))
        self._array = bindings.llama_token_data_array(data, len(logits), -1, False)

    def apply(self, sampler: Any) -> None:
        """Let a native sampler cut, reorder or rate them."""
        lib.llama().llama_sampler_apply(sampler, ctypes.byref(self._array))

    @property
    def selected(self) -> int:
        """The token that a sampler picked; -1 if none did."""
        index = self._array.selected
        return int(self._array.data[index].id) if 0 <= index < self._array.size else -1

    @property
    def tokens(self) -> NDArray[np.int32]:
        """Those that are left: int32 [m]."""
        return self._left("id")

    @property
    def logits(self) -> NDArray[np.float32]:
        """Their logits: float32 [m], minus infinity for a token that is out."""
        return self._left("logit")

    def _left(self, field: str) -> NDArray[Any]:
        address = ctypes.addressof(self._array.data.contents)  # a sampler may have moved the start
        size = self._array.size
        entries = np.frombuffer((ctypes.c_char * (size * _ENTRY.itemsize)).from_address(address), _ENTRY)
        values: NDArray[Any] = entries[field].copy()
        return values
