"""Writes the GGUF in one pass: slabs of rows are read, transformed, quantized and written by several threads at once.

A slab goes from the checkpoint to its place in the file without waiting for any other, so memory is a few buffers per
thread whatever the model weighs. The file appears under its name only when it is whole. Knows nothing of families,
tokenizers or why a tensor has its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert.header import Layout
from localllm.convert.imatrix import ImportanceMatrix
from localllm.convert.outfiles import OutFile, new_files
from localllm.convert.plan import PlannedTensor
from localllm.convert.proof.roundtrip import Meter
from localllm.convert.slabs import Buffers, Slab, in_threads, read_slab, slabs
from localllm.convert.tensor import FLOATS, RowSource
from localllm.errors import BadCheckpoint
from localllm.native import quants

Progress = Callable[[int, int], None]
"""Called from the caller's thread with the numbers handled so far and in all."""


def write(
    checkpoint: RowSource,
    tensors: Sequence[PlannedTensor],
    layouts: Sequence[Layout],
    targets: Sequence[Path],
    *,
    through: str | None,
    importance: ImportanceMatrix | None,
    force: bool,
    threads: int,
    check: Callable[[Sequence[Path]], None],
    meter: Meter | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the files that `layouts` describe to `targets`; there are several when a model is split.

    `through` is the 16-bit type to which weights are rounded before they are quantized; None for a file in F32, F16 or
    BF16, which is rounded once. `importance` says how much each column of a matrix matters. `check` gets the finished
    files before they take their names. `meter` looks at every slab.

    Raises:
        BadOutput: one exists and `force` is not set, the disk is full or fails; nothing is left behind.
        BadCheckpoint: a weight is not finite or a file of the checkpoint became unreadable.
        KeyboardInterrupt: as usual; nothing is left behind.
    """
    total = sum(tensor.rows * tensor.columns for tensor in tensors)
    sizes = [layout.file_bytes for layout in layouts]
    with new_files(list(zip(targets, sizes, strict=True)), force) as files:
        for layout, file in zip(layouts, files, strict=True):
            file.write_at(memoryview(layout.header), 0)
        worker = _Worker(checkpoint, files, through, importance, meter)
        done = 0
        for slab in in_threads(worker.handle, slabs(tensors, layouts), threads):
            done += slab.count
            if progress is not None:
                progress(done, total)
        check([file.part for file in files])


class _Worker:
    """What a thread does with a slab. Holds no state of its own between slabs but buffers."""

    def __init__(
        self,
        checkpoint: RowSource,
        files: Sequence[OutFile],
        through: str | None,
        importance: ImportanceMatrix | None,
        meter: Meter | None,
    ) -> None:
        self.checkpoint, self.files = checkpoint, files
        self.through, self.importance, self.meter = through, importance, meter
        self.buffers = Buffers()

    def handle(self, slab: Slab) -> Slab:
        """Read, transform, quantize and write one slab."""
        rows = read_slab(self.checkpoint, slab, self.buffers)
        data = self.quantized(slab, rows)
        self.files[slab.file].write_at(data.data.cast("B"), slab.offset)
        if self.meter is not None:
            self.meter.look(slab, rows, data)
        return slab

    def quantized(self, slab: Slab, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows in the type of the file."""
        tensor, wanted, count = slab.tensor, slab.entry.type_name, slab.count
        rounds = (
            self.through is not None
            and not tensor.keeps_f32
            and tensor.dtype in FLOATS
            and tensor.dtype != self.through
        )
        if tensor.dtype == wanted and not rounds:
            return rows
        numbers = rows if tensor.dtype == "F32" else self.widened(tensor.dtype, rows, count)
        if rounds and self.through is not None:
            half = self.buffers.get("half", 2 * count)
            quants.quantize(self.through, numbers, half, 1, count)
            if wanted == self.through:
                return half
            numbers = self.widened(self.through, half, count)
        size = quants.row_bytes(wanted, tensor.columns)
        data = self.buffers.get("out", (slab.stop - slab.start) * size)
        numbers = numbers.reshape(-1).view(np.float32)
        for first, last, importance in self.weighed(slab):
            part = numbers[first * tensor.columns : last * tensor.columns]
            quants.quantize(wanted, part, data[first * size :], last - first, tensor.columns, importance)
        if not quants.is_valid(wanted, data, data.nbytes):
            raise BadCheckpoint(
                f"{self.checkpoint.files.title}: {', '.join(tensor.sources)} holds numbers too large for {wanted}.",
                hint="BF16 and F32 hold any number of the checkpoint: --type BF16",
            )
        return data

    def weighed(self, slab: Slab) -> Iterator[tuple[int, int, npt.NDArray[np.float32] | None]]:
        """The lines of a slab, cut where another expert begins, each part with the importance of its columns."""
        tensor, matrix = slab.tensor, self.importance
        if matrix is None or not matrix.has(tensor.name, tensor.columns, tensor.experts):
            yield 0, slab.stop - slab.start, None
            return
        height = tensor.rows // tensor.experts
        for expert in range(slab.start // height, (slab.stop - 1) // height + 1):
            first, last = max(slab.start, expert * height), min(slab.stop, (expert + 1) * height)
            yield first - slab.start, last - slab.start, matrix.columns(tensor.name, expert, tensor.columns)

    def widened(self, type_name: str, source: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        """Numbers of another type as float32."""
        numbers = self.buffers.get("f32", 4 * count)
        quants.to_float32(type_name, source, numbers, count)
        return numbers
