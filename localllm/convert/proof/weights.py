"""Every weight of a file against its source: what it lost, and whether its bytes are those that the source gives.

A tensor is made again from the source, slab by slab, in the way that first gives the bytes of a few of its rows. What
can be made again must be the same to the last byte. What cannot, because an importance matrix that is not here or
another version made it, is judged by what its type loses on these very weights. Knows no file format, key or name.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert.header import Entry, Layout
from localllm.convert.imatrix import ImportanceMatrix
from localllm.convert.plan import PlannedTensor
from localllm.convert.proof.roundtrip import Loss, Numbers, TensorLoss, block_errors, block_of, loss, numbers, total
from localllm.convert.quantizations import FLOAT_TYPES, TENSOR_TYPES
from localllm.convert.quantizer import Quantizer
from localllm.convert.reading_order import reading_order
from localllm.convert.slabs import Buffers, Slab, in_threads, read_slab, slabs
from localllm.convert.tensor import RowSource
from localllm.convert.writer import Progress
from localllm.errors import BadCheckpoint
from localllm.native import quants

COMPARABLE = (*TENSOR_TYPES, "NVFP4")
"""The types whose numbers are compared."""

_SLAB = 1 << 18
_WINDOWS, _WINDOW = 4, 8
_BY_COLUMNS = tuple(kind for kind in TENSOR_TYPES if kind not in (*FLOAT_TYPES, "Q8_0"))
_RUINED = 4.0
"""A block that is off by so many times the sum of its own squares is not what a quantizer makes of it."""

_HALF_RMSE = 2.0**-9 / math.sqrt(3)
"""What rounding to BF16 loses: less than that is nobody's mistake."""

_COARSE_RMSE = 0.25
"""More than any type of four bits loses: the limit for one that nothing here makes, such as NVFP4."""

_DAMAGED_ROWS = 16


@dataclass(frozen=True)
class Pair:
    """A tensor of the source and its place in the file. The names are the same."""

    tensor: PlannedTensor
    entry: Entry


@dataclass(frozen=True)
class TensorCheck:
    """What was found of a tensor.

    `remade` is whether bytes of it could be made again; then `different` of its `rows` are not what was made, the row
    `first` before the others, and lost `excess` times what those made lose. `expected` is what its type loses of parts
    of it, for one that could not be made again. `ruined` are the rows with a block that nothing explains.
    """

    found: TensorLoss
    rows: int
    remade: bool
    different: int = 0
    first: int | None = None
    excess: float = 1.0
    expected: float | None = None
    ruined: tuple[int, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether every byte is what the source gives."""
        return self.remade and self.different == 0

    @property
    def too_far(self) -> bool:
        """Whether it lost more than its type explains."""
        slack = 1.6 if self.found.type in _BY_COLUMNS else 1.25
        limit = _COARSE_RMSE if self.expected is None else slack * max(self.expected, _HALF_RMSE)
        return not self.remade and not self.found.loss.rmse <= limit


def is_damage(checks: Sequence[TensorCheck], check: TensorCheck) -> bool:
    """Whether rows of a tensor that are not what was made again are damaged.

    Another kind of processor may round a sum differently, which changes rows here and there in every tensor, and for
    the better as often as not. A few rows in a whole model, or rows that lost clearly more, are something else.
    """
    rows = sum(other.rows for other in checks if other.remade)
    return sum(other.different for other in checks) <= max(_DAMAGED_ROWS, rows // 1000) or check.excess > 1.1


class _Findings:
    """What is known of a tensor so far. `way` is how its bytes are made again, once somebody found out."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decided = False
        self.way: Quantizer | None = None
        self.losses: list[Loss] = []
        self.usual: list[Loss] = []
        self.different: list[int] = []
        self.ruined: list[int] = []
        self.errors = self.remade_errors = 0.0


class WeightCheck:
    """Compares tensors in several threads. `ways` are the 16-bit types to try between source and file, the likeliest
    first; None is none."""

    def __init__(
        self,
        source: RowSource,
        file: RowSource,
        ways: Sequence[str | None],
        importance: ImportanceMatrix | None,
    ) -> None:
        self._source, self._file = source, file
        matrices = [None] if importance is None else [importance, None]
        self._ways = [Quantizer(source.files.title, way, matrix) for matrix in matrices for way in ways]
        self._findings: dict[str, _Findings] = {}
        self._buffers = Buffers()

    def check(self, pairs: Sequence[Pair], threads: int, progress: Progress | None = None) -> list[TensorCheck]:
        """Compare all rows of all tensors.

        Raises:
            BadCheckpoint: a file became unreadable, or the source holds a number that is not finite.
        """
        tensors = [pair.tensor for pair in pairs]
        self._findings = {tensor.name: _Findings() for tensor in tensors}
        whole, done = sum(tensor.rows * tensor.columns for tensor in tensors), 0
        layout, files = Layout(b"", tuple(pair.entry for pair in pairs), 0), self._source.files
        files.expect(reading_order(self._source, tensors))
        for slab in in_threads(self._compare, slabs(tensors, [layout], _SLAB), threads, files.stop):
            done += slab.count
            if progress is not None:
                progress(done, whole)
        return [self._result(pair) for pair in pairs]

    def _compare(self, slab: Slab) -> Slab:
        rows = read_slab(self._source, slab, self._buffers)
        data = self._stored(slab)
        found = self._findings[slab.tensor.name]
        with found.lock:
            if not found.decided:
                found.decided, found.way = True, self._way(slab, rows, data)
        made = None if found.way is None else _made(found.way, slab, rows)
        other = np.empty(0, dtype=np.intp) if found.way is None else _unlike(made, data, slab.stop - slab.start)
        if made is rows and not other.size:
            return slab  # the source's own bytes
        kind, block = slab.entry.type_name, block_of(slab.entry.type_name)
        before = numbers(slab.tensor.dtype, rows, 0, slab.count)
        errors = block_errors(before, numbers(kind, data, 0, slab.count), block)
        per_row = max(slab.tensor.columns // block, 1)
        ruined = np.unique(_ruined(errors, block_errors(before, np.zeros_like(before), block)) // per_row)
        remade = np.zeros_like(errors)
        if other.size and made is not None and made is not rows:
            remade = block_errors(before, numbers(kind, made, 0, slab.count), block)
        usual = _usual_loss(slab, before) if found.way is None else None
        with found.lock:
            found.losses.append(loss(before, errors, block))
            found.usual += [usual] if usual is not None else []
            found.different += (slab.start + other).tolist()
            found.ruined += (slab.start + ruined).tolist()
            found.errors += float(errors.reshape(-1, per_row)[other].sum())
            found.remade_errors += float(remade.reshape(-1, per_row)[other].sum())
        return slab

    def _way(self, slab: Slab, rows: npt.NDArray[Any], data: npt.NDArray[np.uint8]) -> Quantizer | None:
        """The first way that gives the bytes of a few rows of a slab, at any of several places."""
        stored = data.reshape(slab.stop - slab.start, -1)
        for part, lines in _windows(slab):
            for way in self._ways:
                made = _made(way, part, rows[lines])
                if made is not None and np.array_equal(_bytes(made), _bytes(stored[lines])):
                    return way
        return None

    def _stored(self, slab: Slab) -> npt.NDArray[np.uint8]:
        """The bytes of a slab in the file."""
        size = (slab.stop - slab.start) * quants.row_bytes(slab.entry.type_name, slab.tensor.columns)
        buffer = self._buffers.get("file", size)
        try:
            self._file.rows(slab.entry.name, slab.start, slab.stop, buffer.data)
        except OSError as error:
            raise BadCheckpoint(f"{self._file.files.title} cannot be read: {error.strerror}.") from error
        return buffer

    def _result(self, pair: Pair) -> TensorCheck:
        found, tensor, kind = self._findings[pair.entry.name], pair.tensor, pair.entry.type_name
        count, copied = tensor.rows * tensor.columns, found.way is not None and not found.losses
        excess = found.errors / found.remade_errors if found.remade_errors else math.inf if found.errors else 1.0
        return TensorCheck(
            found=TensorLoss(pair.entry.name, kind, count, count, copied, total(found.losses)),
            rows=tensor.rows,
            remade=found.way is not None,
            different=len(found.different),
            first=min(found.different, default=None),
            excess=excess,
            expected=total(found.usual).rmse if found.usual else None,
            ruined=tuple(sorted(found.ruined)),
        )


def _windows(slab: Slab) -> Iterator[tuple[Slab, slice]]:
    """A few rows of a slab at several places, as a slab and as a range of its rows."""
    lines = slab.stop - slab.start
    for number in range(_WINDOWS):
        first = max(lines - _WINDOW, 0) * number // (_WINDOWS - 1)
        last = min(first + _WINDOW, lines)
        yield replace(slab, start=slab.start + first, stop=slab.start + last), slice(first, last)


def _usual_loss(slab: Slab, before: Numbers) -> Loss | None:
    """What a few rows of a slab lose in their type with columns that matter alike; None where nothing is made in it."""
    kind, columns = slab.entry.type_name, slab.tensor.columns
    if kind not in TENSOR_TYPES:
        return None
    lines = min(_WINDOW, slab.stop - slab.start)
    part = before[: lines * columns]
    source, target = part.astype(np.float32), np.empty(lines * quants.row_bytes(kind, columns), dtype=np.uint8)
    alike = np.ones(columns, dtype=np.float32) if quants.aborts_without_importance(kind) else None
    quants.quantize(kind, source, target, lines, columns, alike)
    return loss(part, block_errors(part, numbers(kind, target, 0, part.size), block_of(kind)), block_of(kind))


def _made(quantizer: Quantizer, slab: Slab, rows: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    """The bytes that a way gives, or None where it cannot be gone."""
    tensor, kind, matrix = slab.tensor, slab.entry.type_name, quantizer.importance
    weighed = matrix is not None and matrix.has(tensor.name, tensor.columns, tensor.experts)
    if kind != tensor.dtype and kind not in TENSOR_TYPES:
        return None
    if kind != tensor.dtype and quants.aborts_without_importance(kind) and not weighed:
        return None
    try:
        return quantizer.quantized(slab, rows)
    except BadCheckpoint:
        return None  # a number too large for the type: the file was made in another way


def _unlike(made: npt.NDArray[Any] | None, data: npt.NDArray[np.uint8], lines: int) -> npt.NDArray[np.intp]:
    """The rows whose bytes are not the same: all of a slab that cannot be made in the way of the others."""
    if made is None:
        return np.arange(lines)
    unlike: npt.NDArray[np.bool_] = _bytes(made).reshape(lines, -1) != data.reshape(lines, -1)
    return np.flatnonzero(unlike.any(axis=1))


def _ruined(errors: Numbers, squares: Numbers) -> npt.NDArray[np.intp]:
    """The blocks that are off by far more than their own size, and by enough to matter among the others."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.flatnonzero(~(errors <= _RUINED * squares) & ~(errors <= 1e-4 * squares.mean()))


def _bytes(data: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return data.reshape(-1).view(np.uint8)
