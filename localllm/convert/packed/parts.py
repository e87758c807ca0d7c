"""The stored tensors of a checkpoint that is quantized already, and the plain ones that are made of them.

What a format takes is gone from the result; what no format takes stays, so that nothing is lost silently. Knows no
format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from localllm.convert.files import Files
from localllm.convert.tensor import Rows, SourceTensor, Tensor, read_rows
from localllm.errors import BadCheckpoint, UnsupportedModel

Unpack = Callable[[Files, int, int], Rows]
"""`unpack(files, start, stop)`: those rows of a plain tensor, made of no more than they need."""


@dataclass(frozen=True)
class PackedTensor(Tensor):
    """A plain tensor whose rows are made of stored ones on demand."""

    unpack: Unpack


class Parts:
    """The stored tensors, and what formats make of them."""

    def __init__(self, files: Files, stored: Mapping[str, SourceTensor]) -> None:
        self.files = files
        self.stored = stored
        self._result: dict[str, Tensor] = dict(stored)

    def find(self, name: str) -> SourceTensor | None:
        """A stored tensor, which is taken, or None when there is none of that name."""
        self._result.pop(name, None)
        return self.stored.get(name)

    def need(self, name: str, whole: str) -> SourceTensor:
        """A stored tensor, which is taken, without which `whole` cannot be read.

        Raises:
            BadCheckpoint: it is not there.
        """
        found = self.find(name)
        if found is None:
            raise BadCheckpoint(
                f"{self.files.title}: the tensor {name} is missing, without which {whole} cannot be read.",
                hint="Is the checkpoint complete?",
            )
        return found

    def ending(self, *suffixes: str) -> Iterator[SourceTensor]:
        """The stored tensors with names that end so."""
        return (tensor for name, tensor in self.stored.items() if name.endswith(suffixes))

    def drop(self, pattern: str) -> None:
        """Take what only matters while activations or the KV cache are quantized."""
        for name in self.stored:
            if re.search(pattern, name):
                self._result.pop(name, None)

    def make(self, name: str, dtype: str, shape: tuple[int, ...], unpack: Unpack) -> None:
        """A plain tensor.

        Raises:
            BadCheckpoint: there is one of that name already.
        """
        if name in self._result:
            raise BadCheckpoint(f"{self.files.title}: {name} is there both packed and plain.")
        self._result[name] = PackedTensor(name, dtype, shape, unpack)

    def result(self) -> dict[str, Tensor]:
        """What was not taken and what was made."""
        return self._result

    def numbers(self, tensor: SourceTensor) -> Rows:
        """All numbers of a small tensor, as a vector."""
        return read_rows(self.files, tensor, 0, tensor.rows).reshape(-1)

    def bad_shape(self, tensor: SourceTensor, meaning: str) -> BadCheckpoint:
        """The error for a tensor whose shape is not what the format asks for."""
        shape = list(tensor.shape)
        return BadCheckpoint(
            f"{self.files.title}: {tensor.name} ({tensor.dtype}) has shape {shape}, which is not {meaning}.",
            hint="The quantization_config does not belong to these weights, or one of them was changed.",
        )


def unsupported(method: str, name: str, value: Any) -> UnsupportedModel:
    """The error for a setting of a quantization method that is not known."""
    return UnsupportedModel(
        f"The checkpoint is quantized already ({method}), with {name} {value!r}, which is not known here.",
        hint="Convert the original in BF16, F16 or F32.",
    )
