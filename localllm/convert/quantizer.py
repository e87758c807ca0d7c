"""Rows of a checkpoint become the bytes of a type, as llama.cpp's converter and its quantizer make them in two steps.

Knows rows and types; not where rows come from or where bytes go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert.imatrix import ImportanceMatrix
from localllm.convert.slabs import Buffers, Slab
from localllm.convert.tensor import FLOATS
from localllm.errors import BadCheckpoint
from localllm.native import quants


class Quantizer:
    """Quantizes slabs, in several threads at once. Holds nothing between slabs but buffers.

    `title` is what messages call the source. `through` is the 16-bit type to which weights are rounded first, if any;
    `importance` says how much each column of a matrix matters.
    """

    def __init__(self, title: str, through: str | None, importance: ImportanceMatrix | None = None) -> None:
        self.title, self.through, self.importance = title, through, importance
        self.buffers = Buffers()

    def quantized(self, slab: Slab, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows in the type of the file: `rows` itself, or a buffer of this thread's.

        Raises:
            BadCheckpoint: a number is too large for the type.
        """
        tensor, wanted, count = slab.tensor, slab.entry.type_name, slab.count
        rounds = (
            self.through is not None
            and not tensor.keeps_f32
            and tensor.dtype in FLOATS
            and tensor.dtype != self.through
        )
        if tensor.dtype == wanted and not rounds:
            return rows
        numbers = rows if tensor.dtype == "F32" else self._widened(tensor.dtype, rows, count)
        if rounds and self.through is not None:
            half = self.buffers.get("half", 2 * count)
            quants.quantize(self.through, numbers, half, 1, count)
            if wanted == self.through:
                return half
            numbers = self._widened(self.through, half, count)
        size = quants.row_bytes(wanted, tensor.columns)
        data = self.buffers.get("out", (slab.stop - slab.start) * size)
        numbers = numbers.reshape(-1).view(np.float32)
        for first, last, importance in self._weighed(slab):
            part = numbers[first * tensor.columns : last * tensor.columns]
            quants.quantize(wanted, part, data[first * size :], last - first, tensor.columns, importance)
        if not quants.is_valid(wanted, data, data.nbytes):
            raise BadCheckpoint(
                f"{self.title}: {', '.join(tensor.sources)} holds numbers too large for {wanted}.",
                hint="BF16 and F32 hold any number of the checkpoint: --type BF16",
            )
        return data

    def _weighed(self, slab: Slab) -> Iterator[tuple[int, int, npt.NDArray[np.float32] | None]]:
        """The lines of a slab, cut where another expert begins, each part with the importance of its columns."""
        tensor, matrix = slab.tensor, self.importance
        if matrix is None or not matrix.has(tensor.name, tensor.columns, tensor.experts):
            yield 0, slab.stop - slab.start, None
            return
        height = tensor.rows // tensor.experts
        for expert in range(slab.start // height, (slab.stop - 1) // height + 1):
            first, last = max(slab.start, expert * height), min(slab.stop, (expert + 1) * height)
            yield first - slab.start, last - slab.start, matrix.columns(tensor.name, expert, tensor.columns)

    def _widened(self, type_name: str, source: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        """Numbers of another type as float32."""
        numbers = self.buffers.get("f32", 4 * count)
        quants.to_float32(type_name, source, numbers, count)
        return numbers
