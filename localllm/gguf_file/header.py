"""What the header of a GGUF file says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, overload

from localllm.errors import BadModelFile
from localllm.gguf_file.numbers import FILE_TYPES
from localllm.gguf_file.values import Array, Value

_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor. `shape` is in GGUF's order (row length first), `offset` counts from the start of the file."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    n_bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says about itself. Sizes and offsets in bytes.

    `spans` says from where to where each key's type and value stand in the file.
    """

    path: Path
    version: int
    alignment: int
    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_bytes: int
    spans: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False, compare=False)

    @overload
    def get(self, key: str) -> Value | None: ...
    @overload
    def get(self, key: str, default: _T) -> Value | _T: ...
    def get(self, key: str, default: _T | None = None) -> Value | _T | None:
        """The value of `key`; `{arch}` stands for the architecture: `header.get("{arch}.block_count")`."""
        return self.metadata.get(key.replace("{arch}", self.architecture), default)

    def integer(self, key: str, default: int = 0) -> int:
        """Like `get`, for a whole number. A value that differs between layers gives the largest.

        Raises:
            BadModelFile: the value is not a whole number.
        """
        value = self.get(key, default)
        if isinstance(value, Array):
            value = max((item for item in value if isinstance(item, int)), default=default)
        if not isinstance(value, int):
            name = key.replace("{arch}", self.architecture)
            raise BadModelFile(f"{self.path}: {name} is {value!r}, not a number.")
        return int(value)

    def without_vocabulary(self) -> Header:
        """The same without the arrays of the tokenizer: of hundreds of thousands of tokens they are megabytes."""
        small = {key: value for key, value in self.metadata.items() if not _is_vocabulary(key, value)}
        return replace(self, metadata=small)

    @property
    def architecture(self) -> str:
        """`llama`, `qwen3`…; empty when the file does not say."""
        value = self.metadata.get("general.architecture", "")
        return value if isinstance(value, str) else ""

    @property
    def name(self) -> str:
        """The model's own name, else the file's."""
        value = self.metadata.get("general.name", "")
        return value if isinstance(value, str) and value else self.path.stem

    @property
    def quantization(self) -> str:
        """The quantization type (`Q4_K_M`); where the file names none, the type of most of its weights."""
        named = FILE_TYPES.get(self.integer("general.file_type", -1))
        if named:
            return named
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.type_name] = sizes.get(tensor.type_name, 0) + tensor.elements
        return max(sizes, key=sizes.__getitem__, default="unknown")

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """The bytes of all weights, without padding."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def n_layer(self) -> int:
        """Repeating layers; 0 when the file does not say."""
        return self.integer("{arch}.block_count")

    @property
    def context_length(self) -> int:
        """The context it was trained with, in tokens; 0 when the file does not say."""
        return self.integer("{arch}.context_length")


def _is_vocabulary(key: str, value: Value) -> bool:
    return key.startswith("tokenizer.") and isinstance(value, Array)
