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
from localllm.convert.proof.checks import Found, TensorCheck
from localllm.convert.proof.roundtrip import Loss, Numbers, TensorLoss, block_errors, block_of, loss, numbers, total
from localllm.convert.quantizations import TENSOR_TYPES
from localllm.convert.quantizer import Quantizer
from localllm.convert.reading_order import reading_order
from localllm.convert.slabs import Buffers, Slab, in_threads, read_slab, slabs
from localllm.convert.tensor import BLOCKS, RowSource
from localllm.convert.writer import Progress
from localllm.errors import BadCheckpoint
from localllm.native import quants

COMPARABLE = (*TENSOR_TYPES, "NVFP4")
"""The types whose numbers are compared."""

_SLAB = 1 << 18
_WINDOWS, _WINDOW = 4, 8
_RUINED = 4.0
"""A block that is off by so many times the sum of its own squares is not what a quantizer makes of it."""

_TELLS_NOTHING = 0.5
"""A source whose type loses more than that, such as one of three values, says nothing of a single block."""


@dataclass(frozen=True)
class Pair:
    """A tensor of the source and its place in the file. The names are the same."""

    tensor: PlannedTensor
    entry: Entry


class _Way:
    """How the bytes of a tensor are made again, once somebody found out; None is in no way that is known."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decided = False
        self.quantizer: Quantizer | None = None


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
        self._found: dict[str, _Way] = {}
        self._buffers = Buffers()

    def check(self, pairs: Sequence[Pair], threads: int, progress: Progress | None = None) -> list[TensorCheck]:
        """Compare all rows of all tensors.

        Raises:
            BadCheckpoint: a file became unreadable, or the source holds a number that is not finite.
        """
        tensors = [pair.tensor for pair in pairs]
        self._found = {tensor.name: _Way() for tensor in tensors}
        findings = {tensor.name: Found() for tensor in tensors}
        whole, done = sum(tensor.rows * tensor.columns for tensor in tensors), 0
        layout, files = Layout(b"", tuple(pair.entry for pair in pairs), 0), self._source.files
        files.expect(reading_order(self._source, tensors))
        work = slabs(tensors, [layout], _SLAB, threads=threads)
        # They come in the order of the rows: sums are the same each time, whatever the threads do.
        for slab, found in in_threads(self._compare, work, threads, files.stop):
            findings[slab.tensor.name] = findings[slab.tensor.name].and_then(found)
            done += slab.count
            if progress is not None:
                progress(done, whole)
        return [self._result(pair, findings[pair.entry.name]) for pair in pairs]

    def _compare(self, slab: Slab) -> tuple[Slab, Found]:
        rows = read_slab(self._source, slab, self._buffers)
        data = self._stored(slab)
        way = self._way(slab, rows, data)
        made = None if way is None else _made(way, slab, rows)
        other = np.empty(0, dtype=np.intp) if way is None else _unlike(made, data, slab.stop - slab.start)
        if made is rows and not other.size:
            return slab, Found()  # the source's own bytes
        kind, stored_as = slab.entry.type_name, slab.tensor.dtype
        # A number that a coarse source has lost may be any of those that its block allows.
        block = block_of(kind) if way is not None else block_of(kind, stored_as)
        before, after = numbers(stored_as, rows, 0, slab.count), numbers(kind, data, 0, slab.count)
        errors = block_errors(before, after, block)
        per_row = max(slab.tensor.columns // block, 1)
        ruined = np.unique(_ruined(errors, block_errors(before, np.zeros_like(before), block)) // per_row)
        remade = np.zeros_like(errors)
        if other.size and made is not None and made is not rows:
            remade = block_errors(before, numbers(kind, made, 0, slab.count), block)
        usual = usual_of_source = None
        if way is None and stored_as not in BLOCKS:
            usual = _usual_loss(slab, kind, before)
        elif way is None:
            probe = _between_the_steps(before, slab.tensor.columns)
            usual, usual_of_source = (_usual_loss(slab, name, probe) for name in (kind, stored_as))
        if usual_of_source is not None and usual_of_source.rmse > _TELLS_NOTHING:
            ruined = ruined[:0]
        return slab, Found(
            loss=loss(before, errors, block),
            usual=usual,
            usual_of_source=usual_of_source,
            different=other.size,
            first=slab.start + int(other[0]) if other.size else None,
            ruined=ruined.size,
            first_ruined=slab.start + int(ruined[0]) if ruined.size else None,
            errors=float(errors.reshape(-1, per_row)[other].sum()),
            remade_errors=float(remade.reshape(-1, per_row)[other].sum()),
        )

    def _way(self, slab: Slab, rows: npt.NDArray[Any], data: npt.NDArray[np.uint8]) -> Quantizer | None:
        """The way of the tensor: the first slab of it that comes by decides."""
        way = self._found[slab.tensor.name]
        with way.lock:
            if not way.decided:
                way.decided, way.quantizer = True, self._find_way(slab, rows, data)
        return way.quantizer

    def _find_way(self, slab: Slab, rows: npt.NDArray[Any], data: npt.NDArray[np.uint8]) -> Quantizer | None:
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

    def _result(self, pair: Pair, found: Found) -> TensorCheck:
        tensor, kind, remade = pair.tensor, pair.entry.type_name, self._found[pair.entry.name].quantizer is not None
        count, copied = tensor.rows * tensor.columns, remade and found.loss is None
        excess = found.errors / found.remade_errors if found.remade_errors else math.inf if found.errors else 1.0
        return TensorCheck(
            found=TensorLoss(pair.entry.name, kind, count, count, copied, found.loss or total(())),
            rows=tensor.rows,
            remade=remade,
            different=found.different,
            first=found.first,
            excess=excess,
            expected=found.expected,
            ruined=found.ruined,
            first_ruined=found.first_ruined,
            source_type=tensor.dtype if tensor.dtype in BLOCKS else None,
            coarser=found.source_is_coarser,
        )


def _windows(slab: Slab) -> Iterator[tuple[Slab, slice]]:
    """A few rows of a slab at several places, as a slab and as a range of its rows."""
    lines = slab.stop - slab.start
    for number in range(_WINDOWS):
        first = max(lines - _WINDOW, 0) * number // (_WINDOWS - 1)
        last = min(first + _WINDOW, lines)
        yield replace(slab, start=slab.start + first, stop=slab.start + last), slice(first, last)


def _usual_loss(slab: Slab, kind: str, before: Numbers) -> Loss | None:
    """What a few rows of a slab lose in a type with columns that matter alike; None where nothing is made in it."""
    columns = slab.tensor.columns
    if kind not in TENSOR_TYPES:
        return None
    lines = min(_WINDOW, slab.stop - slab.start)
    part = before[: lines * columns]
    source, target = part.astype(np.float32), np.empty(lines * quants.row_bytes(kind, columns), dtype=np.uint8)
    alike = np.ones(columns, dtype=np.float32) if quants.aborts_without_importance(kind) else None
    quants.quantize(kind, source, target, lines, columns, alike)
    return loss(part, block_errors(part, numbers(kind, target, 0, part.size), block_of(kind)), block_of(kind))


def _between_the_steps(numbers: Numbers, columns: int) -> Numbers:
    """Numbers like these that no type has packed yet: each row and the next, as large together as one of them.

    To pack again in the same or a similar type what came out of one would lose too little.
    """
    rows = numbers.reshape(-1, columns)
    mixed: Numbers = ((rows + np.roll(rows, -1, axis=0 if len(rows) > 1 else 1)) / math.sqrt(2)).reshape(-1)
    return mixed


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
