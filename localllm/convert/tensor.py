"""A tensor of a checkpoint by name, type and shape, and any rows or columns of a stored one, read from its file.

Knows no file format beyond where a tensor's numbers begin; they lie row behind row, little-endian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from localllm.convert.files import Files
from localllm.errors import BadCheckpoint
from localllm.gguf_file import TENSOR_TYPES

Rows = npt.NDArray[Any]

DTYPES: dict[str, npt.DTypeLike] = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "F8_E8M0": "u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "u1",
}
"""Types by their names in safetensors and what their numbers come as; what numpy has no type for comes as its bits."""

FLOATS = ("F32", "F16", "BF16")
"""The types that weights are converted from."""

BLOCKS = {name: (count, size) for name, count, size in TENSOR_TYPES.values() if count > 1}
"""Types of ggml that weights may come in as they are: numbers in a block and its bytes. Rows come as bytes."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of the checkpoint. `shape` is in the order of the checkpoint: rows first."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def columns(self) -> int:
        """Numbers in a row; a vector has rows of one."""
        return self.shape[-1] if len(self.shape) > 1 else 1

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return math.prod(self.shape) // max(self.columns, 1)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        if self.dtype in BLOCKS:
            count, size = BLOCKS[self.dtype]
            return self.columns // count * size
        return self.columns * np.dtype(DTYPES[self.dtype]).itemsize


@dataclass(frozen=True)
class SourceTensor(Tensor):
    """One that is stored as it is. Its numbers begin at `offset` of `file`."""

    file: str
    offset: int


def read_rows(files: Files, tensor: SourceTensor, start: int, stop: int, buffer: memoryview | None = None) -> Rows:
    """Rows `start` to `stop` as an array (rows, columns or bytes of blocks), read into `buffer` where there is one.

    Raises:
        BadCheckpoint: the file became shorter since its header was read.
    """
    size = (stop - start) * tensor.row_bytes
    target = memoryview(bytearray(size)) if buffer is None else buffer[:size]
    _fill(files, tensor, tensor.offset + start * tensor.row_bytes, target)
    return np.frombuffer(target, dtype=DTYPES.get(tensor.dtype, "u1")).reshape(stop - start, -1)


def read_columns(files: Files, tensor: SourceTensor, first: int, last: int) -> Rows:
    """Columns `first` to `last` of all rows, (rows, last - first); nothing else of the tensor is read.

    Raises:
        BadCheckpoint: the file became shorter since its header was read.
    """
    numbers = np.empty((tensor.rows, last - first), dtype=DTYPES[tensor.dtype])
    begin = tensor.offset + first * numbers.itemsize
    for number, row in enumerate(numbers.view(np.uint8)):
        _fill(files, tensor, begin + number * tensor.row_bytes, row.data)
    return numbers


def _fill(files: Files, tensor: SourceTensor, offset: int, target: memoryview) -> None:
    if files.read_into(tensor.file, offset, target) != len(target):
        raise BadCheckpoint(f"{files.title}: {tensor.file} became shorter while it was read.")


@dataclass(frozen=True)
class StoredRows:
    """The tensors of files as they are stored, by name. A source of rows."""

    files: Files
    tensors: dict[str, SourceTensor]

    @property
    def stored(self) -> dict[str, SourceTensor]:
        """The same: nothing is packed in several tensors."""
        return self.tensors

    def rows(self, name: str, start: int, stop: int, buffer: memoryview | None = None) -> Rows:
        """Rows as they are stored: numbers, or the bytes of blocks, (stop - start, bytes of a row).

        Raises:
            BadCheckpoint: the file became shorter since its header was read.
        """
        return read_rows(self.files, self.tensors[name], start, stop, buffer)


class RowSource(Protocol):
    """Where the writer gets numbers from: a checkpoint, or another GGUF."""

    @property
    def files(self) -> Files:
        """The files that it reads."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors by name."""

    @property
    def stored(self) -> Mapping[str, SourceTensor]:
        """The tensors as they are in the files; others where the source is packed."""

    def rows(self, name: str, start: int, stop: int, buffer: memoryview | None = None) -> Rows:
        """Rows `start` to `stop`; see `read_rows`."""
