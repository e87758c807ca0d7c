"""A batch of tokens for llama.cpp, of several sequences. Knows no cache and no sampler."""

from __future__ import annotations

import ctypes
from array import array
from typing import Any

from localllm.native import lib


class Batch:
    """At most `size` tokens, each of one sequence. `native` is what `llama_decode` takes."""

    def __init__(self, size: int) -> None:
        self._api = lib.llama()
        self.native: Any = self._api.llama_batch_init(size, 0, 1)
        self._open = True

    def __len__(self) -> int:
        return int(self.native.n_tokens)

    def clear(self) -> None:
        """Take everything out."""
        self.native.n_tokens = 0

    def add(self, sequence: int, position: int, tokens: array[int], *, outputs: int) -> int:
        """Put in `tokens` of a sequence, the first at `position`. The logits of the last `outputs` are computed.

        Returns the index of the first of those in the batch, to sample from.
        """
        batch, at, count = self.native, len(self), len(tokens)
        _copy(batch.token, at, tokens)
        _copy(batch.pos, at, array("i", range(position, position + count)))
        ctypes.memset(ctypes.addressof(batch.logits.contents) + at, 0, count)
        for index in range(at, at + count):
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
        batch.n_tokens = at + count
        for index in range(at + count - outputs, at + count):
            batch.logits[index] = 1
        return at + count - outputs

    def close(self) -> None:
        """Free it."""
        if self._open:
            self._api.llama_batch_free(self.native)
            self._open = False


# Both sides are 32-bit integers: `llama_token` and `llama_pos` of llama.h, and Python's array type "i".
def _copy(target: Any, at: int, values: array[int]) -> None:
    address, count = values.buffer_info()
    ctypes.memmove(ctypes.addressof(target.contents) + at * values.itemsize, address, count * values.itemsize)
