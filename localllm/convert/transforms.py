"""The few operations on weights that families need between a checkpoint and a GGUF, as values.

Each knows the shape of its result and how to make any range of its rows from rows of its sources, so that nothing
bigger than a slab is ever in memory. A vector counts as rows of one number. Knows nothing of names. Numbers pass
through as they are stored unless an operation computes with them, which is done in float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]
ReadRows = Callable[[int, int, int], Rows]
"""`read(source, start, stop)`: rows of the source with that number, as an array (rows, columns).

An array stays as it is until the slab for which it was read is done.
"""

Shape = tuple[int, ...]


def rows_and_columns(shape: Shape) -> tuple[int, int]:
    """A tensor as rows: the last dimension is a row, but a vector of n numbers is n rows of one."""
    return (math.prod(shape[:-1]), shape[-1]) if len(shape) > 1 else (math.prod(shape), 1)


class Transform(Protocol):
    """How the rows of one tensor are made. Shapes are in the order of the checkpoint: rows first."""

    @property
    def granule(self) -> int:
        """Rows that must be made together: a range starts and ends at multiples of it."""

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """The shape of the result for sources of these shapes."""

    def dtype(self, sources: Sequence[str]) -> str:
        """The type of the result's numbers for sources of these types."""

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` of the result, (stop - start, columns)."""


class AsStored:
    """What transforms have in common that only move numbers."""

    @property
    def granule(self) -> int:
        """Any range of rows can be made."""
        return 1

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """The shape of the first source."""
        return sources[0]

    def dtype(self, sources: Sequence[str]) -> str:
        """The type of the first source."""
        return sources[0]


@dataclass(frozen=True)
class Keep(AsStored):
    """The tensor as it is, or with the same rows under another `to` shape."""

    to: Shape | None = None

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """`to`, or that of the source."""
        return self.to or sources[0]

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The same rows."""
        return read(0, start, stop)


@dataclass(frozen=True)
class Flatten(AsStored):
    """A matrix of `columns` columns as a vector, row behind row."""

    columns: int

    @property
    def granule(self) -> int:
        """The numbers of a row."""
        return self.columns

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """A vector."""
        return (math.prod(sources[0]),)

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The numbers of whole rows."""
        return read(0, start // self.columns, stop // self.columns).reshape(-1, 1)


@dataclass(frozen=True)
class EveryOtherColumn(AsStored):
    """Every second column of a matrix, from column `first` (0 or 1) on."""

    first: int

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """Half as many columns."""
        return (*sources[0][:-1], sources[0][-1] // 2)

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The same rows with half of the columns."""
        return np.ascontiguousarray(read(0, start, stop)[:, self.first :: 2])


@dataclass(frozen=True)
class EveryOtherRow(AsStored):
    """Every second row of a matrix, from row `first` (0 or 1) on."""

    first: int

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """Half as many rows."""
        return (*sources[0][:-2], sources[0][-2] // 2, sources[0][-1])

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """Half of the rows."""
        return np.ascontiguousarray(read(0, 2 * start, 2 * stop)[self.first :: 2])


@dataclass(frozen=True)
class Interleave(AsStored):
    """Rows of q or k with the two halves of each head interleaved.

    transformers rotates element i of a head with element i + n/2, llama.cpp's `llama` graph with its neighbour, so row
    s * n/2 + i of a head goes to row 2 i + s. A bias, a vector, is turned the same way.
    """

    head_rows: int

    @property
    def granule(self) -> int:
        """A whole head."""
        return self.head_rows

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The rows of whole heads, interleaved."""
        rows = read(0, start, stop)
        halves = rows.reshape(-1, 2, self.head_rows // 2, rows.shape[1])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


@dataclass(frozen=True)
class Segment:
    """Rows `first` to `last` of one source."""

    source: int
    first: int
    last: int


@dataclass(frozen=True)
class Join(AsStored):
    """Segments of rows behind each other: parts of a tensor, several tensors as one, or rows in another order.

    `to` is the shape of the result, that of the first source where it is None.
    """

    segments: tuple[Segment, ...]
    to: Shape | None = None

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """`to`, or that of the first source."""
        return self.to or sources[0]

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The rows of all segments in the range."""
        parts, at = [], 0
        for segment in self.segments:
            first, last = max(start - at, 0), min(stop - at, segment.last - segment.first)
            if first < last:
                parts.append(read(segment.source, segment.first + first, segment.first + last))
            at += segment.last - segment.first
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Every(AsStored):
    """Each `step`th row from row `first` on: what was stored with its rows taking turns, as gate and up may be.

    `to` is the shape of the result.
    """

    first: int
    step: int
    to: Shape

    def shape(self, sources: Sequence[Shape]) -> Shape:  # noqa: ARG002 - it was given
        """`to`."""
        return self.to

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The rows, without those between."""
        return np.ascontiguousarray(read(0, start * self.step, stop * self.step)[self.first :: self.step])


@dataclass(frozen=True)
class Transpose:
    """Each matrix of the inner tensor with rows and columns swapped. `inner_shape` is the shape before.

    A whole matrix is made at once.
    """

    inner: Transform
    inner_shape: Shape

    @property
    def granule(self) -> int:
        """The rows of one matrix."""
        return self.inner_shape[-1]

    def shape(self, sources: Sequence[Shape]) -> Shape:  # noqa: ARG002 - it was given
        """The last two dimensions swapped."""
        return (*self.inner_shape[:-2], self.inner_shape[-1], self.inner_shape[-2])

    def dtype(self, sources: Sequence[str]) -> str:
        """That of the inner tensor."""
        return self.inner.dtype(sources)

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The rows of whole matrices."""
        before, columns = self.inner_shape[-2], self.inner_shape[-1]
        first, last = start // columns * before, stop // columns * before
        matrices = self.inner.rows(read, first, last).reshape(-1, before, columns)
        return np.ascontiguousarray(matrices.swapaxes(1, 2)).reshape(stop - start, before)


@dataclass(frozen=True)
class Vectors(AsStored):
    """Vectors of one length, each a source of its own, as the rows of one matrix of the shape `to`."""

    to: Shape

    def shape(self, sources: Sequence[Shape]) -> Shape:  # noqa: ARG002 - it was given
        """`to`."""
        return self.to

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The vectors of the sources in the range."""
        return np.stack([read(number, 0, self.to[1])[:, 0] for number in range(start, stop)])


@dataclass(frozen=True)
class Compute:
    """A function of the numbers of the inner tensor, in float32. It keeps the shape."""

    function: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
    inner: Transform = Keep()

    @property
    def granule(self) -> int:
        """That of the inner tensor."""
        return self.inner.granule

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """That of the inner tensor."""
        return self.inner.shape(sources)

    def dtype(self, sources: Sequence[str]) -> str:  # noqa: ARG002 - whatever they are
        """Numbers that were computed."""
        return "F32"

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:
        """The rows, computed."""
        return np.ascontiguousarray(self.function(as_float32(self.inner.rows(read, start, stop))), dtype=np.float32)


@dataclass(frozen=True)
class Given:
    """Numbers that no tensor of the checkpoint holds but its configuration implies; a vector of float32."""

    values: tuple[float, ...]
    granule: int = 1

    def shape(self, sources: Sequence[Shape]) -> Shape:  # noqa: ARG002 - it has none
        """A vector."""
        return (len(self.values),)

    def dtype(self, sources: Sequence[str]) -> str:  # noqa: ARG002 - it has none
        """Float32."""
        return "F32"

    def rows(self, read: ReadRows, start: int, stop: int) -> Rows:  # noqa: ARG002 - it has no source
        """A range of the numbers."""
        return np.asarray(self.values[start:stop], dtype=np.float32).reshape(-1, 1)


def as_float32(rows: Rows) -> npt.NDArray[np.float32]:
    """Rows as they are stored, bf16 as its bits, widened to float32."""
    if rows.dtype == np.uint16:
        bits: npt.NDArray[np.uint32] = rows.astype(np.uint32) << np.uint32(16)
        rows = bits.view(np.float32)
    return np.asarray(rows, dtype=np.float32)


def stack(count: int, shape: Shape) -> Join:
    """`count` sources of one shape as one tensor with another dimension in front: experts."""
    rows, _ = rows_and_columns(shape)
    return Join(tuple(Segment(number, 0, rows) for number in range(count)), (count, *shape))


def part(first: int, last: int, columns: int) -> Join:
    """Rows `first` to `last` of one matrix of `columns` columns; of a vector when `columns` is 0."""
    return Join((Segment(0, first, last),), (last - first, columns) if columns else (last - first,))


def regroup(groups: int, parts: Sequence[int]) -> Join:
    """Rows that are stored group by group, each with `parts` of so many rows, as part by part: q, k and v by head."""
    ends = list(itertools.accumulate(parts))
    whole = ends[-1]
    return Join(
        tuple(
            Segment(0, group * whole + end - rows, group * whole + end)
            for end, rows in zip(ends, parts, strict=True)
            for group in range(groups)
        )
    )


def minus_exponential(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rates of decay of a state-space model, which are stored as their logarithms. Computed in double precision."""
    rates: npt.NDArray[np.float32] = -np.exp(numbers.astype(np.float64)).astype(np.float32)
    return rates


def plus_one(numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Norms that are stored as the difference from one."""
    more: npt.NDArray[np.float32] = numbers + np.float32(1)
    return more
