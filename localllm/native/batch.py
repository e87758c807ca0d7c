"""A batch of tokens for llama.cpp, of several sequences. Knows no cache and no sampler."""

from __future__ import annotations

import ctypes
from array import array
from typing import Any

from localllm.native import lib


class Batch:
    """At most `size` tokens, each of one sequence. `native` is what `llama_decode` takes.

    llama.cpp reads Python's own arrays, to which Python writes faster than through ctypes (one token in 1.0 instead of
    2.9 µs, 512 in 19 instead of 126). They never change their length, and so never move.
    """

    def __init__(self, size: int) -> None:
        self._count = 0
        self._tokens, self._positions, self._sequences = (array("i", bytes(4 * size)) for _ in range(3))
        self._ones = array("i", [1]) * size  # each token is of one sequence
        start = _address(self._sequences)
        self._lists = (ctypes.c_void_p * size)(*range(start, start + 4 * size, 4))  # of sequences, of one each
        self._outputs = array("b", bytes(size))
        self.native: Any = lib.llama().llama_batch()
        for field, values in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._ones),
            ("logits", self._outputs),
        ):
            kind = type(getattr(self.native, field))
            setattr(self.native, field, ctypes.cast(_address(values), kind))
        self.native.seq_id = ctypes.cast(self._lists, type(self.native.seq_id))

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        """Take everything out."""
        self._count = self.native.n_tokens = 0

    def add(self, sequence: int, position: int, tokens: array[int], *, outputs: int) -> int:
        """Put in `tokens` of a sequence, the first at `position`. The logits of the last `outputs` are computed.

        Returns the index of the first of those in the batch, to sample from.

        Raises:
            ValueError: there is no room for so many.
        """
        at, count = self._count, len(tokens)
        end = at + count
        if end > len(self._tokens):
            raise ValueError(f"the batch has room for {len(self._tokens)} tokens, not for {end}")
        self._tokens[at:end] = tokens
        self._positions[at:end] = array("i", range(position, position + count))
        self._sequences[at:end] = array("i", [sequence]) * count
        self._outputs[at:end] = array("b", bytes(count - outputs) + b"\1" * outputs)
        self._count = self.native.n_tokens = end
        return end - outputs

    def hold(self, sequence: int, position: int, token: int) -> None:
        """Hold this token and no other; its logits are computed. What `clear` and `add` do, in a fifth of the time."""
        self._tokens[0], self._positions[0], self._sequences[0], self._outputs[0] = token, position, sequence, 1
        self._count = self.native.n_tokens = 1


def _address(values: array[int]) -> int:
    return values.buffer_info()[0]
