"""Numbers of eight bits and fewer as float32, bit by bit as their formats define them.

Sources: the OCP specifications of 8-bit floating point (E4M3 without infinities, E5M2) and of microscaling (E2M1,
E8M0).
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from localllm.convert.tensor import Rows
from localllm.convert.transforms import as_float32

Floats = npt.NDArray[np.float32]

E2M1: Floats = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
"""The sixteen numbers of four bits."""


def floats(rows: Rows, dtype: str) -> Floats:
    """Numbers as they are stored under `dtype`, as float32. What is no number comes as NaN."""
    table = _TABLES.get(dtype)
    if table is not None:
        found: Floats = table()[rows]
        return found
    return as_float32(rows) if dtype == "BF16" else rows.astype(np.float32)


@functools.cache
def e4m3() -> Floats:
    """The 256 numbers of F8_E4M3: bias 7, largest 448, no infinity, all ones is NaN."""
    bits = np.arange(256)
    exponent, fraction = bits >> 3 & 15, bits & 7
    sizes = np.where(exponent == 0, np.ldexp(fraction / 8, -6), np.ldexp(1 + fraction / 8, exponent - 7))
    sizes[bits & 127 == 127] = np.nan
    signed: Floats = np.where(bits & 128, -sizes, sizes).astype(np.float32)
    return signed


@functools.cache
def e5m2() -> Floats:
    """The 256 numbers of F8_E5M2: the upper half of a 16-bit float."""
    halves = (np.arange(256, dtype=np.uint16) << np.uint16(8)).view(np.float16)
    numbers: Floats = halves.astype(np.float32)
    return numbers


@functools.cache
def e8m0() -> Floats:
    """The 256 powers of two of F8_E8M0; the last is NaN."""
    powers: Floats = np.full(256, np.nan, dtype=np.float32)
    powers[:255] = np.ldexp(1.0, np.arange(255) - 127)
    return powers


_TABLES = {"F8_E4M3": e4m3, "F8_E5M2": e5m2, "F8_E8M0": e8m0}


def nibbles(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(rows, n) bytes as (rows, 2 n) numbers of four bits, the low half of each byte first."""
    numbers = np.empty((packed.shape[0], packed.shape[1], 2), dtype=np.uint8)
    np.bitwise_and(packed, 15, out=numbers[:, :, 0])
    np.right_shift(packed, 4, out=numbers[:, :, 1])
    return numbers.reshape(packed.shape[0], -1)
