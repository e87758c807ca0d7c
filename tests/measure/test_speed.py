"""Rates of one setting. How high they are, no test can know."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.convert import convert
from localllm.measure.speed import Effort, Speed, measure
from localllm.native import handles
from localllm.runtime.options import Options
from tests.convert.golden import goldens, write_checkpoint

OPTIONS = Options(threads=1, kv_type="f16", n_ubatch=32)


def test_a_turn_is_read_and_written_halfway_between_the_depths() -> None:
    speed = Speed(prefill=(100, 50), decode=(20, 10), check=2)
    assert speed.seconds(reads=100, writes=0) == 1.5
    assert speed.seconds(reads=0, writes=20) == 1.5


def test_the_best_of_each_rate_counts() -> None:
    assert Speed((1, 2), (3, 4), 2).best(Speed((2, 1), (4, 3), 1)) == Speed((2, 2), (4, 4), 1)


@pytest.mark.slow
def test_every_rate_is_measured(smollm2: Path) -> None:
    with handles.open_model(smollm2) as model:
        speed = measure(model, OPTIONS, Effort(chunk=40, steps=2, depth=200))
    assert all(rate > 0 for rate in (*speed.prefill, *speed.decode))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mamba", "lfm2", "gemma3-pattern"])
def test_a_memory_that_is_not_copied_is_filled_by_computing(name: str, tmp_path: Path) -> None:
    golden = next(golden for golden in goldens() if golden.name == name)
    path = convert(write_checkpoint(golden, tmp_path / "checkpoint"), tmp_path / "tiny.gguf", type="F32").outfile
    with handles.open_model(path) as model:
        speed = measure(model, OPTIONS, Effort(chunk=40, steps=2, depth=200))
    assert all(rate > 0 for rate in (*speed.prefill, *speed.decode))
