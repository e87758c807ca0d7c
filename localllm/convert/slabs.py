"""Slabs of rows: every tensor cut into pieces that fit in a few buffers, read and transformed by several threads.

Memory is a few slabs per thread whatever the model weighs. Knows nothing of types that a row becomes.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from localllm.convert.header import Entry, Layout
from localllm.convert.plan import PlannedTensor
from localllm.convert.tensor import RowSource
from localllm.errors import BadCheckpoint
from localllm.native import quants

SLAB = 1 << 20
"""Numbers that a thread handles at once, unless one row, or one head, has more."""

_ALL_SLABS = 8 * SLAB
"""Numbers that all threads handle at once: they take some 7 bytes each."""

_Work = TypeVar("_Work")
_Done = TypeVar("_Done")


@dataclass(frozen=True)
class Slab:
    """Rows of one tensor, which goes to the file of that number."""

    file: int
    tensor: PlannedTensor
    entry: Entry
    start: int
    stop: int

    @property
    def count(self) -> int:
        """Numbers in it."""
        return (self.stop - self.start) * self.tensor.columns

    @property
    def offset(self) -> int:
        """Where its bytes go in its file."""
        return self.entry.offset + self.start * self._row_bytes

    @property
    def n_bytes(self) -> int:
        """How many they are."""
        return (self.stop - self.start) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return quants.row_bytes(self.entry.type_name, self.tensor.columns)


def slabs(
    tensors: Sequence[PlannedTensor], layouts: Sequence[Layout], size: int = SLAB, *, threads: int = 1
) -> Iterator[Slab]:
    """Every tensor cut into slabs of about `size` numbers, in the order of the files.

    Where `threads` are many the slabs are smaller, so that all threads together need no more memory than eight.
    """
    size = min(size, _ALL_SLABS // threads)
    places = [(number, entry) for number, layout in enumerate(layouts) for entry in layout.entries]
    for tensor, (number, entry) in zip(tensors, places, strict=True):
        granule = tensor.transform.granule
        step = max(size // tensor.columns // granule, 1) * granule
        for start in range(0, tensor.rows, step):
            yield Slab(number, tensor, entry, start, min(start + step, tensor.rows))


def in_threads(
    handle: Callable[[_Work], _Done], work: Iterator[_Work], threads: int, stop: Callable[[], None]
) -> Iterator[_Done]:
    """What `handle` makes of each piece of work, in order, at most a few ahead. The first error ends it all.

    `stop` is called when it ends early, so that no `handle` waits for anything any longer.
    """
    pending: deque[Future[_Done]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="convert") as pool:
        try:
            for piece in work:
                pending.append(pool.submit(handle, piece))
                if len(pending) > 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            stop()
            raise
        finally:
            for future in pending:
                future.cancel()


class Buffers(threading.local):
    """Each thread's own memory, which grows to the largest slab it sees and is used again."""

    def __init__(self) -> None:
        self._held: dict[str, npt.NDArray[np.uint8]] = {}

    def get(self, name: str, size: int) -> npt.NDArray[np.uint8]:
        """`size` bytes of the buffer of this name, with whatever they held before."""
        held = self._held.get(name)
        if held is None or held.size < size:
            held = self._held[name] = np.empty(size, dtype=np.uint8)
        return held[:size]


def read_slab(checkpoint: RowSource, slab: Slab, buffers: Buffers) -> npt.NDArray[Any]:
    """The rows of a slab in the checkpoint's own type, transformed and checked to be finite.

    Raises:
        BadCheckpoint: a number is not finite, or a file of the checkpoint became unreadable.
    """
    tensor = slab.tensor
    reads = itertools.count()

    def read(source: int, start: int, stop: int) -> npt.NDArray[Any]:
        name = tensor.sources[source]
        size = (stop - start) * checkpoint.tensors[name].row_bytes
        return checkpoint.rows(name, start, stop, buffers.get(f"read{next(reads)}", size).data)

    try:
        rows = tensor.transform.rows(read, slab.start, slab.stop)
    except OSError as error:
        raise BadCheckpoint(f"{checkpoint.files.title} cannot be read: {error.strerror}.") from error
    if not quants.is_valid(tensor.dtype, rows, rows.nbytes):
        raise BadCheckpoint(
            f"{checkpoint.files.title}: {', '.join(tensor.sources)} holds a number that is not finite "
            f"(rows {slab.start} to {slab.stop - 1}).",
            hint="The checkpoint is damaged, or its training went wrong.",
        )
    return rows
