"""What is chosen among measured settings. The rates are given here; one test measures for real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import DoesNotFit, EngineDied
from localllm.measure import tune as tune_module
from localllm.measure.speed import Effort, Speed
from localllm.measure.tune import Row, Tuning, store, tune
from localllm.native import machine
from localllm.native.handles import ModelHandle
from localllm.runtime import tuned
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.tuned import Choice

Rate = Callable[[Options], float]
"""How many times 100 tokens a second a setting decodes."""


@pytest.fixture
def tuned_with(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Rate], Tuning]:
    """What `tune` finds for the default model on two cores, if measuring gives such rates."""

    def find(rate: Rate) -> Tuning:
        def measure(_model: ModelHandle, options: Options, _effort: Effort) -> Speed:
            fast = rate(options)
            return Speed((1000, 1000), (100 * fast, 50 * fast), 4 - (options.threads == 1) * 2)

        monkeypatch.setattr(tune_module, "measure", measure)
        monkeypatch.setattr(machine, "limits", lambda: machine.Limits(2, 2, None, None))
        return tune(smollm2)

    return find


@pytest.mark.slow
def test_the_fastest_of_each_setting(tuned_with: Callable[[Rate], Tuning]) -> None:
    def rate(options: Options) -> float:
        return (1 + (options.flash_attention is False)) * (1 + (options.threads == 1)) * (1 + (options.n_ubatch == 128))

    found = tuned_with(rate)
    assert found.choice == Choice(threads=1, flash_attention=False, kv_type="f16", n_ubatch=128)
    assert found.before == Choice(threads=2, flash_attention=True, kv_type="f16", n_ubatch=512)
    assert found.gain > 2
    assert found.notes == ()


@pytest.mark.slow
def test_drafting_is_chosen_where_a_step_of_several_tokens_is_cheap(tuned_with: Callable[[Rate], Tuning]) -> None:
    assert tuned_with(lambda _: 1).choice.draft == ""
    found = tuned_with(lambda options: 1 + (options.threads == 1))
    assert found.choice.draft == "ngram"
    assert "n-grams" in str(found.choice)


@pytest.mark.slow
def test_noise_changes_nothing(tuned_with: Callable[[Rate], Tuning]) -> None:
    found = tuned_with(lambda options: 1.01 if options.threads == 1 or options.flash_attention is False else 1)
    assert found.choice == found.before


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "wanted"), [(1.04, "f16"), (1.2, "q8_0/f16")])
def test_a_quantized_cache_has_to_be_worth_it(tuned_with: Callable[[Rate], Tuning], gain: float, wanted: str) -> None:
    assert tuned_with(lambda options: gain if options.kv_type == "q8_0/f16" else 1).choice.kv_type == wanted


@pytest.mark.slow
def test_what_llama_cpp_refuses_is_left_out(tuned_with: Callable[[Rate], Tuning]) -> None:
    def rate(options: Options) -> float:
        if options.flash_attention is False:
            raise EngineDied("It needs flash attention.")
        return 1

    found = tuned_with(rate)
    assert all(row.choice.flash_attention for row in found.rows)
    assert [note for note in found.notes if "It needs flash attention." in note]


@pytest.mark.slow
def test_what_does_not_fit_is_left_out(
    tuned_with: Callable[[Rate], Tuning], smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = make_plan(smollm2).total
    monkeypatch.setattr(machine, "system_memory", lambda: (usual, 8 << 30))
    found = tuned_with(lambda options: 2 if options.flash_attention is False else 1)
    assert found.choice.flash_attention
    assert max(row.memory for row in found.rows) <= usual


@pytest.mark.slow
def test_where_nothing_runs_it_says_why(tuned_with: Callable[[Rate], Tuning]) -> None:
    def rate(_: Options) -> float:
        raise DoesNotFit("There is no memory.")

    with pytest.raises(DoesNotFit, match="There is no memory"):
        tuned_with(rate)


@pytest.mark.slow
def test_time_that_is_up_leaves_the_rest_unmeasured(smollm2: Path) -> None:
    found = tune(smollm2, seconds=0)
    assert len(found.rows) == 1
    assert found.choice == found.before
    assert all("for lack of time" in note for note in found.notes)
    assert len(set(found.notes)) == len(found.notes)
    assert found.notes


def test_ubatches_that_one_measurement_does_not_fill_are_not_compared() -> None:
    choice = Choice(1, True, "f16", 512)
    sizes = [found.n_ubatch for found in tune_module._ubatches(choice, Effort(chunk=256, steps=1, depth=0))]
    assert sizes == [64, 128, 256, 512]


def test_all_hyperthreads_are_tried_but_no_more_than_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    choice, effort = Choice(4, True, "f16", 512), Effort(64, 1, 0)
    for quota, most in ((None, 8), (6.5, 6)):
        monkeypatch.setattr(machine, "limits", lambda quota=quota: machine.Limits(4, 8, quota, None))
        assert [found.threads for found in tune_module._threads(choice, effort)] == [3, 2, most]
    assert [found.threads for found in tune_module._threads(replace(choice, threads=1), effort)] == [6]


@pytest.mark.slow
def test_a_real_model_is_loaded_with_what_was_found(smollm2: Path) -> None:
    rows: list[Row] = []
    found = tune(smollm2, seconds=3, on_row=rows.append)
    assert found.choice in [row.choice for row in found.rows]
    assert {row.choice for row in rows} == {row.choice for row in found.rows}
    store(found)
    assert tuned.find(smollm2, Options()) == found.choice
