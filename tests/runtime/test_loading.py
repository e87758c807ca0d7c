"""The files of a loaded model: they are mapped, so they must stay what they are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from localllm.errors import BadModelFile
from localllm.runtime.loading import copied_bytes
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from tests.runtime.conftest import GREEDY

SMALL = Options(n_ctx=256)


@pytest.fixture
def copy(smollm2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(smollm2, tmp_path / "copy.gguf"))


def say(model: Model) -> str:
    return "".join(model.complete("Once upon a time", sampling=GREEDY, max_tokens=4))


@pytest.mark.slow
def test_a_file_that_is_written_to_is_not_trusted_any_more(copy: Path) -> None:
    with Model.load(copy, SMALL) as model:
        before = say(model)
        with copy.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        os.utime(copy, (1000, 1000))
        with pytest.raises(BadModelFile, match="was written to") as caught:
            say(model)
        assert "Load it again" in caught.value.hint
    with Model.load(copy, SMALL) as model:
        assert say(model) == before  # the last byte is one of many weights


def test_what_was_copied_out_of_the_file_is_read_in_the_log() -> None:
    log = [
        "load_tensors: offloaded 0/31 layers to GPU\n",
        "load_tensors:   CPU_Mapped model buffer size =    85.43 MiB\n",
        "load_tensors:          AMX model buffer size =    40.50 MiB\n",
        "load_tensors:        CUDA0 model buffer size =     2.00 MiB\n",
    ]
    assert copied_bytes(log) == 42.5 * (1 << 20)
    assert copied_bytes(log[:2]) == 0


@pytest.mark.slow
def test_a_file_that_is_replaced_or_removed_is_kept_by_the_mapping(copy: Path) -> None:
    with Model.load(copy, SMALL) as model:
        before = say(model)
        other = copy.with_name("other.gguf")
        other.write_bytes(b"a new file, renamed to the name of the old one")
        other.replace(copy)
        assert say(model) == before
        copy.unlink()
        assert say(model) == before


@pytest.mark.slow
def test_what_was_read_and_not_mapped_may_change(copy: Path) -> None:
    with Model.load(copy, Options(n_ctx=256, mmap=False)) as model:
        before = say(model)
        os.utime(copy, (1000, 1000))
        assert say(model) == before
