"""A small file for llama.cpp to read, gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localllm.convert.header import Layout
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
