"""Every weight of a file against its source: what it lost, and whether its bytes are those that the source gives.

A tensor is made again from the source, slab by slab, in the way that first gives the bytes of a few of its rows. What
can be made again must be the same to the last byte. What cannot, because an importance matrix that is not here or
another version made it, is judged by what its type loses on these very weights. Knows no file format, key or name.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert.header import Entry, Layout
from localllm.convert.imatrix import ImportanceMatrix
from localllm.convert.plan import PlannedTensor
from localllm.convert.proof.roundtrip import Loss, Numbers, TensorLoss, block_errors, block_of, loss, numbers, total
from localllm.convert.quantizations import FLOAT_TYPES, TENSOR_TYPES
from localllm.convert.quantizer import Quantizer
from localllm.convert.slabs import Buffers, Slab, in_threads, read_slab, slabs
from localllm.convert.tensor import RowSource
from localllm.convert.writer import Progress
from localllm.errors import BadCheckpoint
from localllm.native import quants

COMPARABLE = (*TENSOR_TYPES, "NVFP4")
"""The types whose numbers are compared."""

_SLAB = 1 << 18
_PROBES, _PROBE_ROWS = 4, 16
_BY_COLUMNS = tuple(kind for kind in TENSOR_TYPES if kind not in (*FLOAT_TYPES, "Q8_0"))
_RUINED = 4.0
"""A block that is off by so many times the sum of its own squares is not what a quantizer makes of it."""

_HALF_RMSE = 2.0**-9 / math.sqrt(3)
"""What rounding to BF16 loses: less than that is nobody's mistake."""

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
    `first` before the others, and lost `excess` times what those made lose. `expected` is what its type loses of a part
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
        if self.remade or self.expected is None:
            return False
        slack = 1.6 if self.found.type in _BY_COLUMNS else 1.25
        return not self.found.loss.rmse <= slack * max(self.expected, _HALF_RMSE)


def is_damage(checks: Sequence[TensorCheck], check: TensorCheck) -> bool:
    """Whether rows of a tensor that are not what was made again are damaged.

    Another kind of processor may round a sum differently, which changes rows here and there in every tensor, and for
    the better as often as not. A few rows in a whole model, or rows that lost clearly more, are something else.
    """
    rows = sum(other.rows for other in checks if other.remade)
    return sum(other.different for other in checks) <= max(_DAMAGED_ROWS, rows // 1000) or check.excess > 1.1


@dataclass
class _Sums:
    """What is known of a tensor so far."""

    losses: list[Loss] = field(default_factory=list)
    different: list[int] = field(default_factory=list)
    ruined: list[int] = field(default_factory=list)
    errors: float = 0.0
    remade_errors: float = 0.0


class WeightCheck:
    """Compares tensors in several threads. `way` is the 16-bit types to try between source and file, the likeliest
    first; None is none."""

    def __init__(
        self,
        source: RowSource,
        file: RowSource,
        ways: Sequence[str | None],
        importance: ImportanceMatrix | None,
    ) -> None:
        self._source, self._file, self._importance = source, file, importance
        title = source.files.title
        self._quantizers = [Quantizer(title, way, importance) for way in ways]
        if importance is not None:
            self._quantizers += [Quantizer(title, way) for way in ways]
        self._ways: dict[str, Quantizer] = {}
        self._sums: dict[str, _Sums] = {}
        self._buffers, self._lock = Buffers(), threading.Lock()

    def check(self, pairs: Sequence[Pair], threads: int, progress: Progress | None = None) -> list[TensorCheck]:
        """Compare all rows of all tensors.

        Raises:
            BadCheckpoint: a file became unreadable, or the source holds a number that is not finite.
        """
        expected: dict[str, float | None] = {}
        for pair, quantizer, rmse in in_threads(self._probe, iter(pairs), threads):
            expected[pair.entry.name], self._sums[pair.entry.name] = rmse, _Sums()
            if quantizer is not None:
                self._ways[pair.entry.name] = quantizer
        whole, done = sum(pair.tensor.rows * pair.tensor.columns for pair in pairs), 0
        layout = Layout(b"", tuple(pair.entry for pair in pairs), 0)
        for slab in in_threads(self._compare, slabs([pair.tensor for pair in pairs], [layout], _SLAB), threads):
            done += slab.count
            if progress is not None:
                progress(done, whole)
        return [self._result(pair, expected) for pair in pairs]

    def _probe(self, pair: Pair) -> tuple[Pair, Quantizer | None, float | None]:
        """The way in which some rows of a tensor can be made again, or what its type loses of them."""
        entry, tensor = pair.entry, pair.tensor
        kind, losses = entry.type_name, []
        for slab in _windows(pair):
            rows = read_slab(self._source, slab, self._buffers)
            data = self._stored(slab)
            for quantizer in self._quantizers:
                made = _made(quantizer, slab, rows)
                if made is not None and np.array_equal(_bytes(made), data):
                    return pair, quantizer, None
            if kind in TENSOR_TYPES:
                before = numbers(tensor.dtype, rows, 0, slab.count)
                after = _quantized_alike(before, kind, tensor.columns)
                losses.append(loss(before, block_errors(before, after, block_of(kind)), block_of(kind)))
        return pair, None, total(losses).rmse if losses else None

    def _compare(self, slab: Slab) -> Slab:
        rows = read_slab(self._source, slab, self._buffers)
        data = self._stored(slab)
        tensor, kind = slab.tensor, slab.entry.type_name
        quantizer = self._ways.get(tensor.name)
        made = None if quantizer is None else quantizer.quantized(slab, rows)
        copied = made is rows
        other = np.empty(0, dtype=np.intp)
        if made is not None:
            lines = slab.stop - slab.start
            unlike: npt.NDArray[np.bool_] = _bytes(made).reshape(lines, -1) != data.reshape(lines, -1)
            other = np.flatnonzero(unlike.any(axis=1))
        with self._lock:
            sums = self._sums[tensor.name]
            sums.different += [slab.start + int(row) for row in other]
        if copied and not other.size:
            return slab
        block = block_of(kind)
        before = numbers(tensor.dtype, rows, 0, slab.count)
        errors = block_errors(before, numbers(kind, data, 0, slab.count), block)
        ruined = _ruined(errors, block_errors(before, np.zeros_like(before), block))
        per_row = max(tensor.columns // block, 1)
        with self._lock:
            sums.losses.append(loss(before, errors, block))
            sums.ruined += (slab.start + np.unique(ruined // per_row)).tolist()
            if other.size and made is not None:
                after = errors if copied else block_errors(before, numbers(kind, made, 0, slab.count), block)
                sums.errors += float(errors.reshape(-1, per_row)[other].sum())
                sums.remade_errors += 0.0 if copied else float(after.reshape(-1, per_row)[other].sum())
        return slab

    def _stored(self, slab: Slab) -> npt.NDArray[np.uint8]:
        """The bytes of a slab in the file."""
        size = (slab.stop - slab.start) * quants.row_bytes(slab.entry.type_name, slab.tensor.columns)
        buffer = self._buffers.get("file", size)
        try:
            self._file.rows(slab.entry.name, slab.start, slab.stop, buffer.data)
        except OSError as error:
            raise BadCheckpoint(f"{self._file.files.title} cannot be read: {error.strerror}.") from error
        return buffer

    def _result(self, pair: Pair, expected: Mapping[str, float | None]) -> TensorCheck:
        tensor, entry = pair.tensor, pair.entry
        sums, count = self._sums[entry.name], pair.tensor.rows * pair.tensor.columns
        copied = entry.name in self._ways and not sums.losses
        first = min(sums.different, default=None)
        return TensorCheck(
            found=TensorLoss(entry.name, entry.type_name, count, count, copied, total(sums.losses)),
            rows=tensor.rows,
            remade=entry.name in self._ways,
            different=len(sums.different),
            first=first,
            excess=1.0 if sums.errors == sums.remade_errors else _ratio(sums.errors, sums.remade_errors),
            expected=expected[entry.name],
            ruined=tuple(sorted(sums.ruined)),
        )


def _ruined(errors: Numbers, squares: Numbers) -> npt.NDArray[np.intp]:
    """The blocks that are off by far more than their own size, and by enough to matter among the others."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.flatnonzero(~(errors <= _RUINED * squares) & ~(errors <= 1e-4 * squares.mean()))


def _ratio(one: float, other: float) -> float:
    return one / other if other else math.inf


def _windows(pair: Pair) -> Iterator[Slab]:
    """A few rows of a tensor at several places."""
    tensor, granule = pair.tensor, pair.tensor.transform.granule
    step = min(-(-_PROBE_ROWS // granule) * granule, tensor.rows)
    starts = {tensor.rows * (2 * number + 1) // (2 * _PROBES) // granule * granule for number in range(_PROBES)}
    for start in sorted(starts):
        yield Slab(0, tensor, pair.entry, start, min(start + step, tensor.rows))


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


def _quantized_alike(before: Numbers, kind: str, columns: int) -> Numbers:
    """The numbers after quantization with columns that matter alike."""
    source = before.astype(np.float32)
    rows = source.size // columns
    target = np.empty(rows * quants.row_bytes(kind, columns), dtype=np.uint8)
    alike = np.ones(columns, dtype=np.float32) if quants.aborts_without_importance(kind) else None
    quants.quantize(kind, source, target, rows, columns, alike)
    return numbers(kind, target, 0, source.size)


def _bytes(data: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return data.reshape(-1).view(np.uint8)
