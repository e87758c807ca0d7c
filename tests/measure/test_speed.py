"""Rates of one setting. How high they are, no test can know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localllm.convert import convert
from localllm.measure.speed import Decoding, Effort, Speed, _Run, higher, measure_decode, measure_prefill
from localllm.native import handles
from localllm.native.handles import ModelHandle
from localllm.runtime.options import Options
from tests.convert.golden import goldens, write_checkpoint

EFFORT = Effort(0, largest=128, near=128, depth=400)
OPTIONS = Options(threads=1, kv_type="f16", n_ubatch=32)


def test_a_turn_is_read_and_written_halfway_between_the_depths() -> None:
    speed = Speed(prefill=(100, 50), decode=(20, 10), check=2)
    assert speed.seconds(reads=100, writes=0) == 1.5
    assert speed.seconds(reads=0, writes=20) == 1.5


def test_the_best_of_each_rate_counts() -> None:
    assert higher((1, 2), (2, 1)) == (2, 2)
    assert Decoding((3, 4), 2).best(Decoding((4, 3), 1)) == Decoding((4, 4), 1)


@pytest.mark.slow
def test_every_rate_is_measured(smollm2: Path) -> None:
    with handles.open_model(smollm2) as model:
        assert_measured(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mamba", "lfm2", "gemma3-pattern"])
def test_a_memory_that_is_not_copied_is_filled_by_computing(name: str, tmp_path: Path) -> None:
    golden = next(golden for golden in goldens() if golden.name == name)
    path = convert(write_checkpoint(golden, tmp_path / "checkpoint"), tmp_path / "tiny.gguf", type="F32").outfile
    with handles.open_model(path) as model:
        assert_measured(model)


def assert_measured(model: ModelHandle) -> None:
    effort = Effort(0.01, largest=64, near=40, depth=200)  # long enough to go back and read a ubatch again
    decoding = measure_decode(model, OPTIONS, effort)
    assert all(rate > 0 for rate in (*measure_prefill(model, OPTIONS, effort), *decoding.rates, decoding.check))


@pytest.mark.slow
@pytest.mark.parametrize(("n_ubatch", "seconds"), [(32, 0), (64, 0), (512, 0), (32, 1)])
def test_ubatches_are_read_around_one_token_and_no_more_than_the_largest(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch, n_ubatch: int, seconds: float
) -> None:
    read: list[tuple[int, int]] = []
    step = _Run._step

    def watched(run: _Run, count: int, outputs: int = 1) -> None:
        read.append((run._at, count))
        step(run, count, outputs)

    monkeypatch.setattr(_Run, "_step", watched)
    with handles.open_model(smollm2) as model, _Run(model, replace(OPTIONS, n_ubatch=n_ubatch), EFFORT) as run:
        run._seconds = seconds
        run.prefill(300)
    size = min(n_ubatch, EFFORT.largest)
    ours = [place for place, count in read if count == size and place > EFFORT.near]
    assert set(ours) == {300 - size // 2}
    assert len(ours) == 1 if seconds == 0 else len(ours) > 1
