"""Writes the GGUF in one pass: slabs of rows are read, transformed, quantized and written by several threads at once.

A slab goes from the checkpoint to its place in the file without waiting for any other, so memory is a few buffers per
thread whatever the model weighs. The file appears under its name only when it is whole. Knows nothing of families,
tokenizers or why a tensor has its type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from localllm.convert.header import Layout
from localllm.convert.imatrix import ImportanceMatrix
from localllm.convert.outfiles import OutFile, new_files
from localllm.convert.plan import PlannedTensor
from localllm.convert.proof.roundtrip import Meter
from localllm.convert.quantizer import Quantizer
from localllm.convert.reading_order import reading_order
from localllm.convert.slabs import Buffers, Slab, in_threads, read_slab, slabs
from localllm.convert.tensor import RowSource

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
        quantizer = Quantizer(checkpoint.files.title, through, importance)
        worker = _Worker(checkpoint, files, quantizer, meter)
        done = 0
        checkpoint.files.expect(reading_order(checkpoint, tensors))
        for slab in in_threads(worker.handle, slabs(tensors, layouts), threads, checkpoint.files.stop):
            done += slab.count
            if progress is not None:
                progress(done, total)
        check([file.part for file in files])


class _Worker:
    """What a thread does with a slab. Holds no state of its own between slabs but buffers."""

    def __init__(
        self, checkpoint: RowSource, files: Sequence[OutFile], quantizer: Quantizer, meter: Meter | None
    ) -> None:
        self.checkpoint, self.files = checkpoint, files
        self.quantizer, self.meter = quantizer, meter
        self.buffers = Buffers()

    def handle(self, slab: Slab) -> Slab:
        """Read, transform, quantize and write one slab."""
        rows = read_slab(self.checkpoint, slab, self.buffers)
        data = self.quantizer.quantized(slab, rows)
        self.files[slab.file].write_at(data.data.cast("B"), slab.offset)
        if self.meter is not None:
            self.meter.look(slab, rows, data)
        return slab
