"""llama.cpp's samplers for one reply: a chain built from `Sampling`, in the order of llama.cpp's own programs.

What the caller left open comes from the model file (`general.sampling.*`), else from llama.cpp's defaults.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import BadGrammar
from localllm.native import handles, lib
from localllm.native.candidates import Candidates, logits_at
from localllm.native.vocab import Vocab
from localllm.runtime.grammar import gbnf
from localllm.runtime.sampling import DEFAULTS, FORBIDDEN, Sampling, open_values

_MIROSTAT_TOKENS = 100
"""How many tokens Mirostat 1 estimates from, as in llama.cpp's programs and in the paper (arXiv:2007.14966)."""

_FIRST = 512
"""How many of the likeliest tokens a grammar is asked about before it is asked about all."""

# Keys of a model file, from llama.cpp's `llama_model_meta_key`.
_META_KEYS = {
    "temperature": "general.sampling.temp",
    "top_k": "general.sampling.top_k",
    "top_p": "general.sampling.top_p",
    "min_p": "general.sampling.min_p",
    "xtc_probability": "general.sampling.xtc_probability",
    "xtc_threshold": "general.sampling.xtc_threshold",
    "repeat_last_n": "general.sampling.penalty_last_n",
    "repeat_penalty": "general.sampling.penalty_repeat",
    "mirostat": "general.sampling.mirostat",
    "mirostat_tau": "general.sampling.mirostat_tau",
    "mirostat_eta": "general.sampling.mirostat_eta",
    "samplers": "general.sampling.sequence",
}


def recommended(model: handles.ModelHandle) -> Sampling:
    """What the model file asks for, with llama.cpp's defaults where it is silent or says what no sampler could mean."""
    found: dict[str, Any] = {}
    for field in fields(Sampling):
        name, default = field.name, getattr(DEFAULTS, field.name)
        text = model.metadata(_META_KEYS[name]) if name in _META_KEYS else None
        found[name] = default if text is None else _meant(name, text, default)
    return Sampling(**found)


def _meant(name: str, text: str, default: Any) -> Any:
    try:
        value: Any = tuple(text.split(";")) if name == "samplers" else type(default)(float(text))
        Sampling(**{name: value})
    except (ValueError, OverflowError):
        return default
    return value


@dataclass(frozen=True)
class Chances:
    """The log-probability of a token that was picked, and (token, log-probability) of the likeliest, in order."""

    logprob: float
    top: tuple[tuple[int, float], ...]


def chances(logits: NDArray[np.float32], token: int, count: int) -> Chances:
    """Log-probabilities from the `logits` float32 [n_vocab] of the model: of `token`, and of the `count` likeliest."""
    wide = logits.astype(np.float64)
    highest = wide.max()
    logprobs = np.maximum(wide - highest - np.log(np.exp(wide - highest).sum()), FORBIDDEN)
    count = min(count, len(logits))
    likeliest = np.argpartition(-logprobs, count - 1)[:count] if count else np.arange(0)
    order = likeliest[np.argsort(-logprobs[likeliest], kind="stable")]
    return Chances(float(logprobs[token]), tuple((int(other), float(logprobs[other])) for other in order))


@dataclass(frozen=True)
class _Sizes:
    n_vocab: int
    n_ctx: int


class Sampler:
    """The samplers of one reply. Not for two threads at once. Close it when the reply ends.

    `chances` has an entry for each token that was sampled, if log-probabilities were asked for.
    """

    def __init__(self, chain: Any, grammar: Any, sampling: Sampling, biases: dict[int, float], sizes: _Sizes) -> None:
        self.chances: list[Chances] = []
        self._api = lib.llama()
        self._chain, self._grammar, self._biases = chain, grammar, biases
        self._logprobs = sampling.logprobs
        self._history, self._n_vocab = _history(sampling, sizes.n_ctx), sizes.n_vocab
        self._enough = _enough(sampling)

    def read(self, prompt: Sequence[int]) -> None:
        """Let penalties know what stands before the first token."""
        for token in prompt[max(0, len(prompt) - self._history) :]:
            self._api.llama_sampler_accept(self._chain, token)

    def sample(self, context: Any, index: int) -> int:
        """The next token, from the logits at `index` of the batch that `context` decoded last.

        Raises:
            BadGrammar: the grammar allows no token of the vocabulary here, and no end either.
        """
        if self._grammar is None:
            token = int(self._api.llama_sampler_sample(self._chain, context, index))
        else:
            token = self._follow(logits_at(context, index, self._n_vocab))
        if self._logprobs is not None:
            self.chances.append(chances(logits_at(context, index, self._n_vocab), token, self._logprobs))
        return token

    def _follow(self, logits: NDArray[np.float32]) -> int:
        """The next token by the grammar: what the chain picks, or if that is not allowed, picks of what is.

        To ask the grammar about one token is a thousand times faster than about the whole vocabulary.
        """
        token = self._pick(Candidates(logits))
        if not self._allowed(logits, np.array([token], np.int32)).size:
            tokens = self._likeliest_allowed(logits)
            token = self._pick(Candidates(logits[tokens], tokens))
        self._api.llama_sampler_accept(self._grammar, token)
        self._api.llama_sampler_accept(self._chain, token)
        return token

    def _likeliest_allowed(self, logits: NDArray[np.float32]) -> NDArray[np.int32]:
        """The tokens that the grammar allows, or as many of the likeliest as the chain could pick from: int32 [n]."""
        order = np.arange(len(logits), dtype=np.int32)
        if self._enough is not None:
            biased = logits.copy()
            biased[list(self._biases)] += np.array(list(self._biases.values()), np.float32)
            first = np.argpartition(-biased, _FIRST)[:_FIRST] if len(logits) > _FIRST else order
            tokens = self._allowed(logits, first.astype(np.int32))
            if len(tokens) >= self._enough:
                return tokens
        tokens = self._allowed(logits, order)
        if not tokens.size:
            raise BadGrammar(
                "The grammar allows nothing more here that the model's vocabulary could write.",
                hint="Look for a character that no token has, such as a NUL.",
            )
        return tokens

    def _pick(self, candidates: Candidates) -> int:
        candidates.apply(self._chain)
        return candidates.selected

    def _allowed(self, logits: NDArray[np.float32], tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        candidates = Candidates(logits[tokens], tokens)
        candidates.apply(self._grammar)
        return tokens[candidates.logits > -np.inf]

    def close(self) -> None:
        """Free every sampler."""
        for sampler in (self._chain, self._grammar):
            if sampler is not None:
                self._api.llama_sampler_free(sampler)
        self._chain = self._grammar = None


def build(sampling: Sampling, vocab: Vocab, n_ctx: int) -> Sampler:
    """The samplers for a fully resolved `sampling`.

    Raises:
        ValueError: `sampling` has an open value, or a logit bias for a token that the vocabulary does not have.
        BadGrammar: the grammar does not parse.
    """
    if open_values(sampling):
        raise ValueError(f"the sampling has open values ({', '.join(open_values(sampling))}): resolve() it first")
    biases = biased_tokens(sampling, vocab)
    api = lib.llama()
    grammar = _grammar(sampling, vocab)
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    for sampler in _samplers(sampling, biases, vocab, n_ctx):
        api.llama_sampler_chain_add(chain, sampler)
    return Sampler(chain, grammar, sampling, biases, _Sizes(vocab.size, n_ctx))


def check(sampling: Sampling, vocab: Vocab) -> None:
    """Tell what is wrong with a resolved `sampling` before anything is computed for it. Raises as `build`."""
    biased_tokens(sampling, vocab)
    if sampling.grammar is not None:
        gbnf.check(sampling.grammar)


def _grammar(sampling: Sampling, vocab: Vocab) -> Any:
    if sampling.grammar is None:
        return None
    gbnf.check(sampling.grammar)
    lib.forget_problems()
    sampler = lib.llama().llama_sampler_init_grammar(vocab.native, sampling.grammar.encode(), b"root")
    if not sampler:
        reason = "; ".join(line.strip() for line in lib.recent_problems()) or "no reason given"
        raise BadGrammar(f"llama.cpp does not follow the grammar: {reason}.", hint="Write it in simpler rules.")
    return sampler


def biased_tokens(sampling: Sampling, vocab: Vocab) -> dict[int, float]:
    """The logit bias of each token, those that the model file suppresses included.

    Raises:
        ValueError: a token that the vocabulary does not have, or a text that is not one token.
    """
    biases = dict.fromkeys(vocab.suppressed(), FORBIDDEN)
    if sampling.grammar is not None:
        # A grammar reads the names of control tokens as text, and in the reply they have none.
        biases.update(dict.fromkeys(vocab.control, FORBIDDEN))
    for token, bias in sampling.logit_bias:
        biases[_token(token, vocab)] = bias
    return biases


def _token(token: int | str, vocab: Vocab) -> int:
    if isinstance(token, str):
        ids = vocab.tokenize_tail(token)
        if len(ids) != 1:
            parts = ", ".join(f"{id} {vocab.text(id)!r}" for id in ids) or "none"
            raise ValueError(f"the text {token!r} of a logit bias is not one token; its tokens are {parts}")
        return ids[0]
    if not 0 <= token < vocab.size:
        raise ValueError(f"the token {token} of a logit bias is not in the vocabulary of {vocab.size:,} tokens")
    return token


def _samplers(sampling: Sampling, biases: dict[int, float], vocab: Vocab, n_ctx: int) -> list[Any]:
    """Native samplers in their order; the last of them selects."""
    api, seed = lib.llama(), sampling.seed
    made: list[Any] = []
    if biases:
        pairs = (api.llama_logit_bias * len(biases))(*biases.items())
        made.append(api.llama_sampler_init_logit_bias(vocab.size, len(biases), pairs))
    if sampling.mirostat:
        made.append(api.llama_sampler_init_temp(sampling.temperature))
        tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
        if sampling.mirostat == 1:
            made.append(api.llama_sampler_init_mirostat(vocab.size, seed, tau, eta, _MIROSTAT_TOKENS))
        else:
            made.append(api.llama_sampler_init_mirostat_v2(seed, tau, eta))
        return made
    greedy = is_greedy(sampling)
    for name in sampling.samplers or ():
        # Where the likeliest token is taken, only what changes the order counts.
        if name in ("penalties", "dry") or not greedy:
            made += _sampler(name, sampling, vocab, n_ctx)
    if greedy:
        made.append(api.llama_sampler_init_greedy())
    elif sampling.adaptive_target is not None and sampling.adaptive_target >= 0:
        made.append(api.llama_sampler_init_adaptive_p(sampling.adaptive_target, sampling.adaptive_decay, seed))
    else:
        made.append(api.llama_sampler_init_dist(seed))
    return made


def is_greedy(sampling: Sampling) -> bool:
    """Whether a resolved `sampling` always takes the likeliest token: no sampler before the temperature drops it."""
    return (
        sampling.temperature == 0
        and "temperature" in (sampling.samplers or ())
        and not sampling.dynatemp_range
        and not sampling.xtc_probability
        and not sampling.mirostat
        and sampling.typical_p == 1
        and (sampling.adaptive_target or 0) < 0
    )


def _enough(sampling: Sampling) -> int | None:
    """How many of the likeliest tokens hold all that the chain can pick, if it keeps their order up to there."""
    if sampling.mirostat:
        return None
    active = [name for name in sampling.samplers or () if not _is_off(name, sampling)]
    if is_greedy(sampling):
        return None if {"penalties", "dry"} & set(active) else 1
    return sampling.top_k if active[:1] == ["top_k"] else None


def _sampler(name: str, sampling: Sampling, vocab: Vocab, n_ctx: int) -> list[Any]:
    """The sampler of that name; nothing if its values say that it is off."""
    if _is_off(name, sampling):
        return []
    api = lib.llama()
    makers: dict[str, Callable[[], Any]] = {
        "penalties": lambda: api.llama_sampler_init_penalties(
            vocab.size,
            _window(sampling.repeat_last_n, n_ctx),
            sampling.repeat_penalty,
            sampling.frequency_penalty,
            sampling.presence_penalty,
        ),
        "dry": lambda: _dry(sampling, vocab, n_ctx),
        "top_n_sigma": lambda: api.llama_sampler_init_top_n_sigma(sampling.top_n_sigma),
        "top_k": lambda: api.llama_sampler_init_top_k(sampling.top_k),
        "typ_p": lambda: api.llama_sampler_init_typical(sampling.typical_p, 1),
        "top_p": lambda: api.llama_sampler_init_top_p(sampling.top_p, 1),
        "min_p": lambda: api.llama_sampler_init_min_p(sampling.min_p, 1),
        "xtc": lambda: api.llama_sampler_init_xtc(sampling.xtc_probability, sampling.xtc_threshold, 1, sampling.seed),
        "temperature": lambda: api.llama_sampler_init_temp_ext(
            sampling.temperature, sampling.dynatemp_range, sampling.dynatemp_exponent
        ),
    }
    return [makers[name]()]


def _is_off(name: str, sampling: Sampling) -> bool:
    tests: dict[str, bool] = {
        "penalties": not sampling.repeat_last_n
        or (sampling.repeat_penalty == 1 and not sampling.frequency_penalty and not sampling.presence_penalty),
        "dry": not sampling.dry_multiplier or not sampling.dry_penalty_last_n,
        "top_n_sigma": (sampling.top_n_sigma or 0) <= 0,
        "top_k": not sampling.top_k,
        "typ_p": sampling.typical_p == 1,
        "top_p": sampling.top_p == 1,
        "min_p": not sampling.min_p,
        "xtc": not sampling.xtc_probability or (sampling.xtc_threshold or 0) > 0.5,
    }
    return tests.get(name, False)


def _dry(sampling: Sampling, vocab: Vocab, n_ctx: int) -> Any:
    api = lib.llama()
    breakers = [text.encode("utf-8", "replace") for text in sampling.dry_sequence_breakers or () if text]
    texts = (ctypes.c_char_p * len(breakers))(*breakers)
    window = _window(sampling.dry_penalty_last_n, n_ctx)
    return api.llama_sampler_init_dry(
        vocab.native,
        sampling.dry_multiplier,
        sampling.dry_base,
        sampling.dry_allowed_length,
        window,
        texts,
        len(breakers),
    )


def _window(tokens: int | None, n_ctx: int) -> int:
    """How many tokens a penalty looks back; llama.cpp allocates them at once, and more than the context never come."""
    return n_ctx if tokens is None or not 0 <= tokens <= n_ctx else tokens


def _history(sampling: Sampling, n_ctx: int) -> int:
    """How many tokens of the prompt some sampler wants to know."""
    if sampling.mirostat:
        return 0
    used = [name for name in sampling.samplers or () if not _is_off(name, sampling)]
    windows = {"penalties": sampling.repeat_last_n, "dry": sampling.dry_penalty_last_n}
    return max((_window(windows[name], n_ctx) for name in used if name in windows), default=0)
