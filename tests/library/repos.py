"""What several tests of the hub do with a repo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from localllm import library
from localllm.convert.files import Files
from localllm.gguf_file import read_header


def open_repo(name: str = "org/tiny", remark: Callable[[str], None] | None = None) -> Files:
    found = library.open_source(name, remark=remark)
    assert not isinstance(found, Path)
    return found


def read(files: Files, name: str) -> bytes:
    buffer = bytearray(files.size(name))
    assert files.read_into(name, 0, memoryview(buffer)) == len(buffer)
    return bytes(buffer)


def same_weights(repo_file: Path, local_file: Path) -> bool:
    """The same tensors behind headers that tell of another source."""
    ours, theirs = read_header(repo_file), read_header(local_file)
    assert [info.name for info in ours.tensors] == [info.name for info in theirs.tensors]
    starts = [header.tensors[0].offset for header in (ours, theirs)]
    return repo_file.read_bytes()[starts[0] :] == local_file.read_bytes()[starts[1] :]
