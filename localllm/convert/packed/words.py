"""Whole numbers of a few bits packed into 32-bit words. Knows no format."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from localllm.convert.tensor import Rows

Small = npt.NDArray[np.uint8]


def down(words: Rows, bits: int) -> Small:
    """Numbers that follow each other down the rows, the lowest bits first: (words, n) as (words * 32 / bits, n).

    The bits of one column are a stream: where a word is no multiple of a number, the number goes on in the next word.
    """
    common = math.gcd(bits, 32)
    held, count = bits // common, 32 // common
    groups = words.view(np.uint32).reshape(-1, held, words.shape[1])
    numbers = np.empty((len(groups), count, words.shape[1]), dtype=np.uint8)
    for number in range(count):
        word, shift = divmod(number * bits, 32)
        found = groups[:, word] >> np.uint32(shift)
        if shift + bits > 32:
            found |= groups[:, word + 1] << np.uint32(32 - shift)
        numbers[:, number] = found & np.uint32((1 << bits) - 1)
    return numbers.reshape(-1, words.shape[1])


def across(words: Rows, bits: int) -> Small:
    """The same along the rows: (n, words) as (n, words * 32 / bits)."""
    return np.ascontiguousarray(down(np.ascontiguousarray(words.T), bits).T)


def padded(words: Rows, bits: int) -> Small:
    """Numbers along the rows, as many as fit whole into a word: (n, words) as (n, words * (32 // bits))."""
    unsigned = words.view(np.uint32)
    numbers = np.empty((*words.shape, 32 // bits), dtype=np.uint8)
    for number in range(32 // bits):
        numbers[..., number] = unsigned >> np.uint32(number * bits) & np.uint32((1 << bits) - 1)
    return numbers.reshape(words.shape[0], -1)
