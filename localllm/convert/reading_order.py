"""Which parts of the files of a checkpoint a conversion reads, in about the order in which it reads them.

A hint for files that are far away: what it names too much is fetched in vain, what it leaves out is fetched late.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

from localllm.convert.files import Range
from localllm.convert.plan import PlannedTensor
from localllm.convert.tensor import RowSource, SourceTensor


def reading_order(source: RowSource, tensors: Sequence[PlannedTensor]) -> list[Range]:
    """The bytes of all stored tensors that these are made of, each once."""
    names = sorted(source.stored)
    sources = (name for tensor in tensors for name in tensor.sources)
    stored = {part.name: part for name in dict.fromkeys(sources) for part in _parts(source, names, name)}
    return [(tensor.file, tensor.offset, tensor.rows * tensor.row_bytes) for tensor in stored.values()]


def _parts(source: RowSource, names: Sequence[str], name: str) -> Iterator[SourceTensor]:
    """The tensor itself, or those that a packed one is made of: they are called like it, with other endings."""
    if isinstance(source.tensors[name], SourceTensor):
        yield source.stored[name]
        return
    stem = name.removesuffix(".weight")
    for number in range(bisect.bisect_left(names, stem), len(names)):
        if not names[number].startswith(stem):
            return
        if names[number][len(stem) :].startswith((".", "_")):
            yield source.stored[names[number]]
