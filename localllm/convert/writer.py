"""Writes the GGUF in one pass: slabs of rows are read, transformed, quantized and written by several threads at once.

A slab goes from the checkpoint to its place in the file without waiting for any other, so memory is a few buffers per
thread whatever the model weighs. The file appears under its name only when it is whole. Knows nothing of families,
tokenizers or why a tensor has its type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localllm.convert.header import Layout
from localllm.convert.imatrix import ImportanceMatrix
from localllm.convert.journal import Done, Journal, checksum, identify
from localllm.convert.outfiles import OutFile, journal_of, new_files
from localllm.convert.plan import PlannedTensor
from localllm.convert.proof.roundtrip import Meter
from localllm.convert.quantizer import Quantizer
from localllm.convert.reading_order import reading_order
from localllm.convert.slabs import Buffers, Slab, in_threads, read_slab, slabs
from localllm.convert.tensor import RowSource

Progress = Callable[[int, int], None]
"""Called from the caller's thread with the numbers handled so far and in all."""

NOTHING_YET = "starting at the beginning: nothing of it is done yet"
"""What is remarked where there is nothing to go on with: news to who asked to go on."""


@dataclass(frozen=True)
class Target:
    """Where the files go and what happens to others: `force` replaces existing ones, `resume` goes on with what an
    interrupted conversion left, and leaves it when it is interrupted again. `remark` is told about that."""

    paths: Sequence[Path]
    force: bool = False
    resume: bool = False
    remark: Callable[[str], None] = lambda _: None


def write(
    checkpoint: RowSource,
    tensors: Sequence[PlannedTensor],
    layouts: Sequence[Layout],
    target: Target,
    *,
    through: str | None,
    importance: ImportanceMatrix | None,
    threads: int,
    check: Callable[[Sequence[Path]], None],
    meter: Meter | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the files that `layouts` describe; there are several when a model is split.

    `through` is the 16-bit type to which weights are rounded before they are quantized; None for a file in F32, F16 or
    BF16, which is rounded once. `importance` says how much each column of a matrix matters. `check` gets the finished
    files before they take their names. `meter` looks at every slab.

    Raises:
        BadOutput: one exists and `force` is not set, the disk is full or fails; nothing is left behind.
        BadCheckpoint: a weight is not finite or a file of the checkpoint became unreadable.
        KeyboardInterrupt: as usual; nothing is left behind.
    """
    total = sum(tensor.rows * tensor.columns for tensor in tensors)
    numbers = {"through": through, "importance": importance and importance.version, "looked_at": meter is not None}
    journal = Journal(journal_of(target.paths[0]), identify(checkpoint, layouts, numbers))
    begun = _begun(journal, target, list(slabs(tensors, layouts, threads=threads)), total)
    sizes = [(path, layout.file_bytes) for path, layout in zip(target.paths, layouts, strict=True)]
    reuse = journal.reason is None
    with (
        new_files(
            sizes, target.force, keep=target.resume, reuse=reuse, take_back=reuse and journal.was_naming
        ) as files,
        journal,
    ):
        for layout, file in zip(layouts, files, strict=True):
            file.write_at(memoryview(layout.header), 0)
        quantizer = Quantizer(checkpoint.files.title, through, importance)
        worker = _Worker(checkpoint, files, quantizer, meter, journal)
        checkpoint.files.expect(reading_order(checkpoint, [tensor for tensor in tensors if tensor.name not in begun]))
        done, work = 0, slabs(tensors, layouts, threads=threads)
        for slab, new in in_threads(worker.handle, work, threads, checkpoint.files.stop):
            if new is not None:
                journal.add(slab, new)
            done += slab.count
            if progress is not None:
                progress(done, total)
        check([file.part for file in files])
        journal.naming()


def _begun(journal: Journal, target: Target, work: Sequence[Slab], total: int) -> set[str]:
    """The names of the tensors that are done already; says how much that is, or why it is nothing."""
    if not target.resume:
        journal.forget()
        if journal.was_there:
            target.remark("what an interrupted conversion had done is dropped; --resume goes on with it")
    elif journal.reason is not None:
        target.remark(f"starting at the beginning: {journal.reason}" if journal.was_there else NOTHING_YET)
    missing = {slab.tensor.name for slab in work if journal.find(slab) is None}
    count = sum(slab.count for slab in work if journal.find(slab) is not None)
    if count:
        target.remark(f"going on with an interrupted conversion: {count / total:.0%} is done")
    return {slab.tensor.name for slab in work} - missing


class _Worker:
    """What a thread does with a slab. Holds no state of its own between slabs but buffers."""

    def __init__(
        self,
        checkpoint: RowSource,
        files: Sequence[OutFile],
        quantizer: Quantizer,
        meter: Meter | None,
        journal: Journal,
    ) -> None:
        self.checkpoint, self.files, self.journal = checkpoint, files, journal
        self.quantizer, self.meter = quantizer, meter
        self.buffers = Buffers()

    def handle(self, slab: Slab) -> tuple[Slab, Done | None]:
        """Read, transform, quantize and write one slab, unless it is there already; what was done, if anything."""
        done = self.journal.find(slab)
        if done is not None and self._is_there(slab, done):
            if self.meter is not None and done.look is not None:
                self.meter.remember(slab, done.look)
            return slab, None
        rows = read_slab(self.checkpoint, slab, self.buffers)
        data = self.quantizer.quantized(slab, rows)
        content = data.data.cast("B")
        self.files[slab.file].write_at(content, slab.offset)
        look = self.meter.look(slab, rows, data) if self.meter is not None else None
        return slab, Done(checksum(content), look)

    def _is_there(self, slab: Slab, done: Done) -> bool:
        content = self.buffers.get("there", slab.n_bytes).data
        self.files[slab.file].read_at(content, slab.offset)
        return checksum(content) == done.checksum
