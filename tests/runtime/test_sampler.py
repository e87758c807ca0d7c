"""Every sampler does what its definition says: compared with numpy on given logits, through llama.cpp's own call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from localllm.native.candidates import Candidates
from localllm.native.handles import open_model
from localllm.native.vocab import Vocab
from localllm.runtime.chain import is_greedy
from localllm.runtime.guided import GuidedSampler, chances
from localllm.runtime.sampler import build, recommended
from localllm.runtime.sampling import DEFAULTS, LARGEST_SEED, SAMPLERS, Sampling, resolve

Probabilities = dict[int, float]

OFF = replace(DEFAULTS, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0, seed=1)
"""Every sampler off: the distribution is the model's."""


@pytest.fixture(scope="module")
def vocab(smollm2: Path) -> Iterator[Vocab]:
    with open_model(smollm2, vocab_only=True) as model:
        yield Vocab(model)


@pytest.fixture(scope="module")
def logits(vocab: Vocab) -> NDArray[np.float32]:
    """As of a model that is unsure between some tens of tokens."""
    values = np.random.default_rng(5).normal(0, 1.5, vocab.size).astype(np.float32)
    values[:60] += np.linspace(9, 4, 60, dtype=np.float32)
    return values


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max())
    chances: NDArray[np.float64] = shifted / shifted.sum()
    return chances


def _after(vocab: Vocab, sampling: Sampling, logits: NDArray[np.float32], said: list[int] | None = None) -> Candidates:
    sampler = build(sampling, vocab, n_ctx=512)
    try:
        sampler.read(said or [])
        candidates = Candidates(logits)
        candidates.apply(sampler._chain)
        return candidates
    finally:
        sampler.close()


def _distribution(candidates: Candidates) -> Probabilities:
    chances = _softmax(candidates.logits)
    return {int(token): float(chance) for token, chance in zip(candidates.tokens, chances, strict=True) if chance > 0}


def _kept(logits: NDArray[np.float32], tokens: NDArray[np.intp]) -> Probabilities:
    chances = _softmax(logits[tokens])
    return {int(token): float(chance) for token, chance in zip(tokens, chances, strict=True)}


def _same(got: Probabilities, wanted: Probabilities) -> None:
    assert set(got) == set(wanted)
    for token, chance in wanted.items():
        assert got[token] == pytest.approx(chance, rel=1e-3, abs=1e-7)


@pytest.mark.slow
def test_with_everything_off_the_distribution_is_the_models(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    _same(_distribution(_after(vocab, OFF, logits)), _kept(logits, np.arange(vocab.size)))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_the_logits(vocab: Vocab, logits: NDArray[np.float32], temperature: float) -> None:
    got = _distribution(_after(vocab, replace(OFF, temperature=temperature), logits))
    _same(got, _kept(logits / np.float32(temperature), np.arange(vocab.size)))


@pytest.mark.slow
def test_dynamic_temperature_follows_the_entropy(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    sampling = replace(OFF, temperature=1.0, dynatemp_range=0.5, dynatemp_exponent=2.0)
    chances = _softmax(logits)
    entropy = -(chances * np.log(chances)).sum() / np.log(vocab.size)
    temperature = 0.5 + (1.5 - 0.5) * entropy**2.0
    got = _distribution(_after(vocab, sampling, logits))
    _same(got, _kept(logits / np.float32(temperature), np.arange(vocab.size)))


def test_top_k_keeps_the_k_likeliest(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    got = _distribution(_after(vocab, replace(OFF, top_k=7), logits))
    _same(got, _kept(logits, np.argsort(-logits)[:7]))


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.3, 0.9])
def test_top_p_keeps_the_fewest_that_sum_to_p(vocab: Vocab, logits: NDArray[np.float32], p: float) -> None:
    order = np.argsort(-logits)
    count = int(np.searchsorted(np.cumsum(_softmax(logits)[order]), p)) + 1
    assert 1 < count < vocab.size
    _same(_distribution(_after(vocab, replace(OFF, top_p=p), logits)), _kept(logits, order[:count]))


def test_min_p_is_relative_to_the_likeliest(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    chances = _softmax(logits)
    kept = np.flatnonzero(chances >= 0.2 * chances.max())
    assert 1 < len(kept) < 60
    _same(_distribution(_after(vocab, replace(OFF, min_p=0.2), logits)), _kept(logits, kept))


def test_typical_keeps_what_is_as_surprising_as_expected(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    chances = _softmax(logits)
    entropy = -(chances * np.log(chances)).sum()
    order = np.argsort(np.abs(-np.log(chances) - entropy))
    count = int(np.searchsorted(np.cumsum(chances[order]), 0.4, side="right")) + 1
    got = _distribution(_after(vocab, replace(OFF, typical_p=0.4), logits))
    # float32 sums over many tokens end a few tokens earlier or later than float64 ones
    wanted = {int(token) for token in order[:count]}
    assert len(set(got) ^ wanted) <= 0.002 * count
    assert int(np.argmax(logits)) not in got


def test_top_n_sigma_cuts_by_the_spread_of_the_logits(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    kept = np.flatnonzero(logits >= logits.max() - 1.5 * logits.std())
    assert 1 < len(kept) < 200
    _same(_distribution(_after(vocab, replace(OFF, top_n_sigma=1.5), logits)), _kept(logits, kept))


@pytest.mark.slow
def test_xtc_leaves_out_all_above_the_threshold_but_the_last(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    order = np.argsort(-logits)
    above = int((_softmax(logits) >= 0.02).sum())
    assert above > 2
    got = _distribution(_after(vocab, replace(OFF, xtc_probability=1.0, xtc_threshold=0.02), logits))
    _same(got, _kept(logits, order[above - 1 :]))


@pytest.mark.slow
def test_penalties_act_on_what_was_said(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    negative = int(np.argmin(logits))
    said = [3, 3, 3, 7, negative]
    wanted = logits.copy()
    for token, count in ((3, 3), (7, 1), (negative, 1)):
        wanted[token] = wanted[token] * 1.3 if wanted[token] <= 0 else wanted[token] / 1.3
        wanted[token] -= count * 0.25 + 0.5
    sampling = replace(OFF, repeat_penalty=1.3, frequency_penalty=0.25, presence_penalty=0.5)
    _same(_distribution(_after(vocab, sampling, logits, said)), _kept(wanted, np.arange(vocab.size)))


@pytest.mark.slow
def test_penalties_look_back_as_far_as_they_are_told(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    wanted = logits.copy()
    wanted[[7, 8]] -= 2
    sampling = replace(OFF, presence_penalty=2.0, repeat_last_n=2)
    _same(_distribution(_after(vocab, sampling, logits, [3, 7, 8])), _kept(wanted, np.arange(vocab.size)))
    wanted[3] -= 2
    whole = replace(sampling, repeat_last_n=-1)
    _same(_distribution(_after(vocab, whole, logits, [3, 7, 8] + [8] * 200)), _kept(wanted, np.arange(vocab.size)))


@pytest.mark.slow
def test_dry_makes_the_end_of_a_repeated_sequence_less_likely(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    one, two, three, four = (vocab.tokenize_tail(word)[0] for word in (" one", " two", " three", " four"))
    wanted = logits.copy()
    wanted[four] -= 0.8 * 1.75 ** (3 - 2)  # "one two three" is 3 tokens, of which 2 may repeat
    sampling = replace(OFF, dry_multiplier=0.8)
    said = [one, two, three, four, one, two, three]
    _same(_distribution(_after(vocab, sampling, logits, said)), _kept(wanted, np.arange(vocab.size)))
    (newline,) = vocab.tokenize_tail("\n")
    broken = [one, two, three, four, one, newline, three]
    _same(_distribution(_after(vocab, sampling, logits, broken)), _kept(logits, np.arange(vocab.size)))


@pytest.mark.slow
def test_logit_bias_by_token_and_by_text(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    (hello,) = vocab.tokenize_tail(" Hello")
    wanted = logits.copy()
    wanted[5] += 3
    wanted[hello] = -np.inf
    sampling = replace(OFF, logit_bias=((5, 3.0), (" Hello", float("-inf"))))
    got = _distribution(_after(vocab, sampling, logits))
    _same(got, _kept(wanted, np.delete(np.arange(vocab.size), hello)))


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_keeps_the_surprise_near_its_target(vocab: Vocab, logits: NDArray[np.float32], version: int) -> None:
    chances = _softmax(logits)

    def surprise(tau: float) -> float:
        sampler = build(replace(OFF, mirostat=version, mirostat_tau=tau), vocab, 512)
        bits = []
        for _ in range(150):
            candidates = Candidates(logits)
            candidates.apply(sampler._chain)
            bits.append(-np.log2(chances[candidates.selected]))
        sampler.close()
        return float(np.mean(bits[50:]))

    assert surprise(2.0) < surprise(4.0) < surprise(7.0)
    if version == 2:  # which measures the surprise in the distribution that was cut, so a little off the model's
        assert surprise(4.0) == pytest.approx(4.0, abs=1.0)


def test_adaptive_p_prefers_tokens_of_its_target(vocab: Vocab) -> None:
    chances = np.array([0.6, 0.3, 0.1], np.float32)
    sampler = build(replace(OFF, adaptive_target=0.3), vocab, 512)
    candidates = Candidates(np.log(chances))
    candidates.apply(sampler._chain)
    sampler.close()
    assert int(candidates.tokens[np.argmax(candidates.logits)]) == 1


def test_the_order_is_llama_cpps_and_can_be_another(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    first = np.argsort(-logits)[:3]
    # Top-p of the three that top-k left, against top-k of what top-p left.
    usual = replace(OFF, top_k=3, top_p=0.5)
    order = first[: int(np.searchsorted(np.cumsum(_softmax(logits[first])), 0.5)) + 1]
    assert len(order) < 3
    _same(_distribution(_after(vocab, usual, logits)), _kept(logits, order))
    turned = replace(usual, samplers=("top_p", "top_k"))
    _same(_distribution(_after(vocab, turned, logits)), _kept(logits, first))
    assert SAMPLERS.index("penalties") == 0
    assert SAMPLERS[-1] == "temperature"


def test_greedy_takes_the_likeliest_and_only_where_it_may(vocab: Vocab, logits: NDArray[np.float32]) -> None:
    greedy = replace(DEFAULTS, temperature=0.0, seed=1)
    assert is_greedy(greedy)
    assert _after(vocab, greedy, logits).selected == int(np.argmax(logits))
    xtc = replace(greedy, xtc_probability=1.0, xtc_threshold=0.02)
    assert not is_greedy(xtc)
    above = int((_softmax(logits[np.argsort(-logits)[:40]]) >= 0.02).sum())
    assert above > 1
    assert _after(vocab, xtc, logits).selected != int(np.argmax(logits))


def test_draws_follow_the_distribution_and_the_seed(vocab: Vocab) -> None:
    chances = np.array([0.5, 0.3, 0.2], np.float32)

    def draw(seed: int) -> list[int]:
        sampler = build(replace(OFF, seed=seed), vocab, 512)
        drawn = []
        for _ in range(1000):
            candidates = Candidates(np.log(chances))
            candidates.apply(sampler._chain)
            drawn.append(candidates.selected)
        sampler.close()
        return drawn

    once = draw(11)
    assert draw(11) == once
    assert draw(12) != once
    assert np.bincount(once) / 1000 == pytest.approx(chances, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [replace(DEFAULTS, temperature=0.0), DEFAULTS, replace(DEFAULTS, top_k=0), replace(DEFAULTS, repeat_penalty=1.5)],
    ids=["greedy", "top-k", "no top-k", "penalties"],
)
def test_asking_a_grammar_about_the_likeliest_first_changes_nothing(
    vocab: Vocab, logits: NDArray[np.float32], sampling: Sampling
) -> None:
    grammar = 'root ::= ("z" [aeiou] | [0-9] " "? | "é" | "~~~~~~" )*'
    asked = replace(sampling, seed=4, grammar=grammar, logit_bias=((vocab.tokenize_tail("7")[0], 2.0),))

    def draw(*, whole: bool) -> list[int]:
        sampler = build(asked, vocab, 512)
        assert isinstance(sampler, GuidedSampler)
        if whole:
            sampler._enough = None
        drawn = [sampler._follow(logits + np.float32(step % 3)) for step in range(40)]
        sampler.close()
        return drawn

    assert draw(whole=False) == draw(whole=True)


def test_log_probabilities_are_the_models_own(logits: NDArray[np.float32]) -> None:
    wanted = np.log(_softmax(logits))
    found = chances(logits, 77, 5)
    assert found.logprob == pytest.approx(wanted[77])
    assert [token for token, _ in found.top] == list(np.argsort(-logits)[:5])
    assert [chance for _, chance in found.top] == pytest.approx(np.sort(wanted)[::-1][:5])
    everything = chances(logits[:9], 0, 100)
    assert np.exp([chance for _, chance in everything.top]).sum() == pytest.approx(1)
    assert chances(logits, 1, 0).top == ()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"top_p": 1.5}, "top p 1.5 is not between 0 and 1"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"repeat_penalty": 0.0}, "repeat penalty 0.0"),
        ({"mirostat": 3}, "between 0 and 2"),
        ({"seed": -1}, "seed -1"),
        ({"logprobs": -1}, "logprobs -1"),
        ({"stop": ("a", "")}, "stop string is empty"),
        ({"seed": LARGEST_SEED + 1}, "seed 4294967295 is not between 0 and 4294967294"),
        ({"samplers": ("top_k", "topq")}, "no sampler 'topq'; there are penalties, dry"),
        ({"logit_bias": ((1, float("nan")),)}, "logit bias nan of the token 1"),
    ],
)
def test_what_no_sampler_could_mean_is_refused(values: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Sampling(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (-1, "token -1 .* not in the vocabulary of 49,152"),
        (49152, "token 49152 .* not in the vocabulary"),
        (" unfortunately not", "not one token; its tokens are .*' unfortunately'.*' not'"),
        ("", "not one token; its tokens are none"),
    ],
)
def test_a_bias_for_a_token_that_is_none_is_refused(vocab: Vocab, token: int | str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(replace(OFF, logit_bias=((token, 1.0),)), vocab, 512)


def test_open_values_come_from_the_file_and_a_seed_is_drawn(smollm2: Path) -> None:
    with open_model(smollm2, vocab_only=True) as model:
        base = recommended(model)
    assert base.repeat_last_n == DEFAULTS.repeat_last_n
    resolved = resolve(Sampling(top_k=3, logit_bias=((1, 2.0),)), replace(base, min_p=0.3))
    assert (resolved.top_k, resolved.min_p, resolved.logit_bias) == (3, 0.3, ((1, 2.0),))
    assert resolved.seed is not None


class _File:
    """Metadata as a model file has it."""

    def __init__(self, **values: str) -> None:
        self._values = values

    def metadata(self, key: str) -> str | None:
        return self._values.get(key.removeprefix("general.sampling."))


def test_what_a_file_recommends_is_taken_and_nonsense_is_not() -> None:
    file = _File(temp="0.25", top_k="12", penalty_last_n="-1", sequence="top_k;temperature", top_p="7", min_p="x")
    base = recommended(file)  # type: ignore[arg-type]
    assert (base.temperature, base.top_k, base.repeat_last_n) == (0.25, 12, -1)
    assert base.samplers == ("top_k", "temperature")
    assert (base.top_p, base.min_p) == (DEFAULTS.top_p, DEFAULTS.min_p)
