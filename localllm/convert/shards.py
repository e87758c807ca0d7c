"""A GGUF cut into several files, each under a size: which tensors go where, and what the files are called.

Convention: `gguf-split` of llama.cpp. The first file holds all metadata; every file says which one it is of how many.
Tensors are counted with their padding, metadata is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from localllm.convert.header import KeyValue, Layout, i32, lay_out, u16
from localllm.errors import UnsupportedModel

TensorEntry = tuple[str, tuple[int, ...], str]


def lay_out_shards(
    keys: Mapping[str, KeyValue], tensors: Sequence[TensorEntry], limit: int | None
) -> tuple[Layout, ...]:
    """One layout per file; a single one without any mention of files when the tensors stay under `limit` bytes.

    Raises:
        UnsupportedModel: one tensor alone is larger than `limit`.
    """
    whole = lay_out(keys, tensors)
    if limit is None or whole.file_bytes - len(whole.header) <= limit:
        return (whole,)
    parts: list[list[TensorEntry]] = [[]]
    ends = [entry.offset for entry in whole.entries[1:]] + [whole.file_bytes]
    size = 0
    for tensor, entry, end in zip(tensors, whole.entries, ends, strict=True):
        if end - entry.offset > limit:
            raise UnsupportedModel(
                f"{entry.name} alone has {entry.n_bytes:,} bytes, more than the {limit:,} of --split-max-size.",
                hint="Give a larger size.",
            )
        if size + end - entry.offset > limit:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += end - entry.offset
    return tuple(
        lay_out({**(keys if number == 0 else {}), **_place(number, len(parts), len(tensors))}, part)
        for number, part in enumerate(parts)
    )


def _place(number: int, count: int, tensors: int) -> dict[str, KeyValue]:
    return {"split.no": u16(number), "split.tensors.count": i32(tensors), "split.count": u16(count)}


def shard_paths(target: Path, count: int) -> list[Path]:
    """The names under which llama.cpp finds all files when it is given the first: `NAME-00001-of-00003.gguf`."""
    if count == 1:
        return [target]
    stem = target.name.removesuffix(".gguf")
    return [target.with_name(f"{stem}-{number:05}-of-{count:05}.gguf") for number in range(1, count + 1)]
