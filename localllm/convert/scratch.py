"""A small file for llama.cpp to read, gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localllm.convert.header import Layout
from localllm.convert.shards import shard_paths
from localllm.errors import BadOutput


@contextmanager
def skeleton(layout: Layout) -> Iterator[Path]:
    """A GGUF with the header of `layout` and a hole for a body: it has the full size but takes no room on disk.

    Raises:
        BadOutput: the folder for temporary files cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="localllm-") as folder:
        path = Path(folder) / "skeleton.gguf"
        try:
            with path.open("wb") as file:
                file.write(layout.header)
                file.truncate(layout.file_bytes)
        except OSError as error:
            raise BadOutput(
                f"A temporary file in {folder} cannot be written: {error.strerror}.",
                hint="Make room there, or set TMPDIR to a folder with room.",
            ) from error
        yield path


@contextmanager
def named_parts(paths: Sequence[Path]) -> Iterator[Path]:
    """A name under which llama.cpp finds the files of one model, whatever they are called now.

    Raises:
        BadOutput: the folder for temporary files cannot be written.
    """
    if len(paths) == 1:
        yield paths[0]
        return
    with tempfile.TemporaryDirectory(prefix="localllm-") as folder:
        names = shard_paths(Path(folder) / "model.gguf", len(paths))
        for name, path in zip(names, paths, strict=True):
            name.symlink_to(path.resolve())
        yield names[0]
