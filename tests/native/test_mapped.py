"""Pages of mapped files leave the process, and come back as they were."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import pytest

from localllm.native import mapped
from localllm.runtime.memory import mapped_weights

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/maps")


def test_pages_are_let_go_of_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    data = bytes(range(256)) * 4096
    path.write_bytes(data)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert view[:] == data
        assert mapped_weights([path]) == (len(data), len(data))
        mapped.let_go([tmp_path / "another file"])
        assert mapped_weights([path]) == (len(data), len(data))
        mapped.let_go([path])
        assert mapped_weights([path]) == (len(data), 0)
        assert view[:] == data


def test_what_was_written_to_a_private_mapping_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        view[0] = 7
        mapped.let_go([path])
        assert view[0] == 7
