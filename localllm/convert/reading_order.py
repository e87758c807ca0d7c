"""Which parts of the files of a checkpoint a conversion reads, in about the order in which it reads them.

A hint for files that are far away: what it names too much is fetched in vain, what it leaves out is fetched late.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from localllm.convert.files import Range
from localllm.convert.plan import PlannedTensor
from localllm.convert.tensor import RowSource, SourceTensor


def reading_order(source: RowSource, tensors: Sequence[PlannedTensor]) -> list[Range]:
    """The bytes of all stored tensors that these are made of, each once."""
    names = dict.fromkeys(name for tensor in tensors for name in tensor.sources)
    stored = (part for name in names for part in _stored(source.tensors[name]))
    return list(dict.fromkeys((part.file, part.offset, part.rows * part.row_bytes) for part in stored))


def _stored(value: Any) -> Iterator[SourceTensor]:
    """The tensor itself, or those that a packed one holds to be made of."""
    if isinstance(value, SourceTensor):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from _stored(getattr(value, field.name))
