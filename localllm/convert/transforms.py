"""The few operations on weights that families need between a checkpoint and a GGUF, as values.

Each knows the shape of its result and how to make any range of its rows from rows of its sources, so that nothing
bigger than a slab is ever in memory. Knows nothing of names or number formats: rows pass through as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
ReadRows = Callable[[int, int, int], Rows]
"""`read(source, start, stop)`: rows of the source with that number, as an array (rows, columns)."""

Shape = tuple[int, ...]


class Transform(Protocol):
    """How the rows of one tensor are made. Shapes are in the order of the checkpoint: rows first."""

    @property
    def granule(self) -> int:
        """Rows that must be made together: a range starts and ends at multiples of it."""

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """The shape of the result for sources of these shapes."""

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` of the result, (stop - start, columns)."""


@dataclass(frozen=True)
class Keep:
    """The tensor as it is."""

    granule: int = 1

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """The same shape."""
        return sources[0]

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The same rows."""
        return read(0, start, stop)


@dataclass(frozen=True)
class Interleave:
    """Rows of q or k with the two halves of each head interleaved.

    transformers rotates element i of a head with element i + n/2, llama.cpp's `llama` graph with its neighbour, so row
    s * n/2 + i of a head goes to row 2 i + s. A bias, a vector, is turned the same way.
    """

    head_rows: int

    @property
    def granule(self) -> int:
        """A whole head."""
        return self.head_rows

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """The same shape."""
        return sources[0]

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The rows of whole heads, interleaved."""
        rows = read(0, start, stop)
        halves = rows.reshape(-1, 2, self.head_rows // 2, rows.shape[1])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


@dataclass(frozen=True)
class InterleaveVector:
    """The bias of q or k, turned as `Interleave` turns the rows."""

    head_rows: int
    granule: int = 1

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """The same shape."""
        return sources[0]

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The vector as one row."""
        vector = read(0, start, stop)
        halves = vector.reshape(-1, 2, self.head_rows // 2)
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(vector.shape)


@dataclass(frozen=True)
class Given:
    """Numbers that no tensor of the checkpoint holds but its configuration implies; a vector of float32."""

    values: tuple[float, ...]
    granule: int = 1

    def shape(self, sources: Sequence[Shape]) -> Shape:  # noqa: ARG002 - it has none
        """A vector."""
        return (len(self.values),)

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:  # noqa: ARG002 - there is one row
        """The vector as one row."""
        return np.asarray(self.values, dtype=np.float32).reshape(1, -1)
