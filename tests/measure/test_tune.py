"""What is chosen among measured settings. The rates are given here; one test measures for real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import DoesNotFit, EngineDied
from localllm.measure import bench
from localllm.measure import tune as tune_module
from localllm.measure.bench import Row
from localllm.measure.speed import Decoding, Effort, Rates
from localllm.measure.tune import Tuning, store, tune
from localllm.native import machine
from localllm.native.handles import ModelHandle
from localllm.runtime import tuned
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.tuned import Choice

Rate = Callable[[Options], float]
"""How many times as fast as usual a setting is."""


def usual(_: Options) -> float:
    return 1


class Given:
    """What `tune` finds for the default model on two cores, if measuring gives the rates that it is told.

    `decoded` and `read` are what was measured, in its order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decodes: Rate = usual
        self.reads: Rate = usual
        self.decoded: list[Choice] = []
        self.read: list[Choice] = []

    def __call__(self, decodes: Rate = usual, reads: Rate = usual, rounds: int = 1) -> Tuning:
        self.decodes, self.reads = decodes, reads
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tune_module, "_ROUNDS", rounds)
            return tune(self.path)

    def decode(self, _model: ModelHandle, options: Options, _effort: Effort) -> Decoding:
        self.decoded.append(chosen(options))
        fast = self.decodes(options)
        return Decoding((100 * fast, 50 * fast), 4 - (options.threads == 1) * 2)

    def prefill(self, _model: ModelHandle, options: Options, _effort: Effort) -> Rates:
        self.read.append(chosen(options))
        fast = self.reads(options)
        return 800 * fast, 400 * fast


def chosen(options: Options) -> Choice:
    return Choice(options.threads, options.flash_attention is not False, options.kv_type, options.n_ubatch)


@pytest.fixture
def tuned_with(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    given = Given(smollm2)
    monkeypatch.setattr(bench, "measure_decode", given.decode)
    monkeypatch.setattr(bench, "measure_prefill", given.prefill)
    monkeypatch.setattr(tune_module, "measure_prefill", lambda *_: (1000, 1000))
    monkeypatch.setattr(machine, "limits", lambda: machine.Limits(2, 2, None, None))
    return given


@pytest.mark.slow
def test_the_fastest_of_each_setting(tuned_with: Given) -> None:
    def rate(options: Options) -> float:
        return (1 + (options.flash_attention is False)) * (1 + (options.threads == 1))

    found = tuned_with(rate, lambda options: 1 + (options.n_ubatch == 256))
    assert found.choice == Choice(threads=1, flash_attention=False, kv_type="f16", n_ubatch=256)
    assert found.before == Choice(threads=2, flash_attention=True, kv_type="f16", n_ubatch=512)
    assert found.gain > 2
    assert found.notes == ()


@pytest.mark.slow
def test_drafting_is_chosen_where_a_step_of_several_tokens_is_cheap(tuned_with: Given) -> None:
    assert tuned_with(lambda _: 1).choice.draft == ""
    found = tuned_with(lambda options: 1 + (options.threads == 1))
    assert found.choice.draft == "ngram"
    assert "n-grams" in str(found.choice)


@pytest.mark.slow
def test_noise_changes_nothing(tuned_with: Given) -> None:
    found = tuned_with(lambda options: 1.01 if options.threads == 1 or options.flash_attention is False else 1)
    assert found.choice == found.before


@pytest.mark.slow
@pytest.mark.parametrize(("gain", "wanted"), [(1.04, "f16"), (1.2, "q8_0/f16")])
def test_a_quantized_cache_has_to_be_worth_it(tuned_with: Given, gain: float, wanted: str) -> None:
    assert tuned_with(lambda options: gain if options.kv_type == "q8_0/f16" else 1).choice.kv_type == wanted


@pytest.mark.slow
def test_what_llama_cpp_refuses_is_left_out(tuned_with: Given) -> None:
    def rate(options: Options) -> float:
        if options.flash_attention is False:
            raise EngineDied("It needs flash attention.")
        return 1

    found = tuned_with(rate)
    assert all(row.choice.flash_attention for row in found.rows)
    assert [note for note in found.notes if "It needs flash attention." in note]


@pytest.mark.slow
def test_what_does_not_fit_is_left_out(tuned_with: Given, smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = make_plan(smollm2).total
    monkeypatch.setattr(machine, "system_memory", lambda: (usual, 8 << 30))
    found = tuned_with(lambda options: 2 if (options.flash_attention, options.kv_type) == (False, "f16") else 1)
    assert found.choice.flash_attention
    assert max(row.memory for row in found.rows) <= usual


@pytest.mark.slow
def test_where_nothing_runs_it_says_why(tuned_with: Given) -> None:
    def rate(_: Options) -> float:
        raise DoesNotFit("There is no memory.")

    with pytest.raises(DoesNotFit, match="There is no memory"):
        tuned_with(rate)


@pytest.mark.slow
def test_time_that_is_up_leaves_the_rest_unmeasured(smollm2: Path) -> None:
    found = tune(smollm2, seconds=0)
    assert len(found.rows) == 1
    assert found.choice == found.before
    unmeasured = [note for note in found.notes if note.startswith("Not measured")]
    assert unmeasured
    assert all("for lack of time" in note for note in unmeasured)
    assert len(set(found.notes)) == len(found.notes)


def distance(size: int) -> Rate:
    """Reading is slower by a tenth for each step from the best ubatch, `size`."""
    sizes = tune_module.UBATCHES
    return lambda options: 0.9 ** abs(sizes.index(options.n_ubatch) - sizes.index(size))


@pytest.mark.slow
@pytest.mark.parametrize("size", tune_module.UBATCHES)
def test_the_best_ubatch_is_found_from_its_neighbours(tuned_with: Given, size: int) -> None:
    assert tuned_with(lambda options: 2 if options.kv_type == "q8_0" else 1, distance(size)).choice.n_ubatch == size


@pytest.mark.slow
def test_attention_may_win_by_its_own_ubatch(tuned_with: Given) -> None:
    """Without flash attention it is slower with 128 as with 512, and fastest with 256."""

    def reads(options: Options) -> float:
        return 3 if options.flash_attention is False and options.n_ubatch == 256 else 1

    found = tuned_with(lambda options: 0.95 if options.flash_attention is False else 1, reads)
    assert found.choice == Choice(2, False, "f16", 256)


@pytest.mark.slow
def test_nothing_is_measured_twice_in_the_first_round(tuned_with: Given) -> None:
    found = tuned_with(lambda options: 1 + (options.flash_attention is False))
    assert len(tuned_with.read) == len(set(tuned_with.read)) == len(found.rows)
    decoders = [replace(choice, n_ubatch=1) for choice in tuned_with.decoded]
    assert len(decoders) == len(set(decoders)) == len(tune_module.ATTENTION) + 1  # and with one thread


@pytest.mark.slow
def test_further_rounds_repeat_what_is_close_and_what_it_is_compared_with(tuned_with: Given) -> None:
    def decodes(options: Options) -> float:
        return 2 if options.flash_attention is False else 1

    tuned_with(decodes)
    once = len(tuned_with.read)
    tuned_with.read.clear()
    found = tuned_with(decodes, rounds=2)
    again = tuned_with.read[once:]
    assert found.before in again
    assert len(again) == len(set(again))
    assert {choice.flash_attention for choice in again if choice != found.before} == {False}


@pytest.mark.slow
def test_the_best_rates_of_all_rounds_count(tuned_with: Given) -> None:
    def rising(_: Options) -> float:
        return 1 + len(tuned_with.read) / 1000

    assert tuned_with(rising, rising, rounds=3).row(Choice(2, True, "f16", 512)).speed.prefill[0] > 808


@pytest.mark.slow
def test_what_fails_only_when_repeated_keeps_its_rates(tuned_with: Given) -> None:
    def reads(options: Options) -> float:
        if tuned_with.read.count(chosen(options)) > 1:
            raise EngineDied("The memory is gone.")
        return 1

    found = tuned_with(reads=reads, rounds=2)
    assert found.choice == found.before
    assert [note for note in found.notes if note.startswith("Not measured again: ") and "memory is gone" in note]


@pytest.mark.slow
def test_threads_that_decode_too_slowly_are_not_read_with(tuned_with: Given) -> None:
    found = tuned_with(lambda options: 1 if options.threads == 2 else 0.9)
    assert {choice.threads for choice in tuned_with.decoded} == {1, 2}
    assert {choice.threads for choice in tuned_with.read} == {2}
    assert [note for note in found.notes if "1 thread" in note and "decoding is too slow" in note]


@pytest.mark.slow
def test_ubatches_too_slow_to_measure_are_told(tuned_with: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_module, "measure_prefill", lambda *_: (80, 80))
    found = tuned_with()
    assert found.effort.largest == 128
    assert {choice.n_ubatch for choice in tuned_with.read} == {64, 512}  # 128 would be the same as 512
    assert [note for note in found.notes if "more than 128 tokens take too long to measure" in note]


@pytest.mark.slow
def test_all_hyperthreads_are_tried_but_no_more_than_the_quota(
    tuned_with: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    for quota, most in ((None, 8), (6.5, 6)):
        monkeypatch.setattr(machine, "limits", lambda quota=quota: machine.Limits(4, 8, quota, None))
        monkeypatch.setattr(machine, "usable_threads", lambda: 4)
        tuned_with.decoded.clear()
        tuned_with()
        assert {choice.threads for choice in tuned_with.decoded} == {4, 3, 2, most}


@pytest.mark.slow
def test_a_real_model_is_loaded_with_what_was_found(smollm2: Path) -> None:
    rows: list[Row] = []
    found = tune(smollm2, seconds=3, on_row=rows.append)
    assert found.choice in [row.choice for row in found.rows]
    assert {row.choice for row in rows} == {row.choice for row in found.rows}
    store(found)
    assert tuned.find(smollm2, Options()) == found.choice
