"""Picks the tokens of one reply: by a chain of samplers, by a grammar if there is one, and tells their probabilities.

What the caller left open comes from the model file (`general.sampling.*`), else from `Options.recommended`, else from
llama.cpp's defaults.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import BadGrammar
from localllm.native import handles, lib, log
from localllm.native.candidates import Candidates, logits_at
from localllm.native.vocab import Vocab
from localllm.runtime.chain import biased_tokens, enough, history, is_greedy, samplers
from localllm.runtime.grammar import gbnf, schema
from localllm.runtime.sampling import DEFAULTS, FORBIDDEN, Sampling, open_values

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


def recommended(model: handles.ModelHandle, otherwise: Iterable[tuple[str, float]] = ()) -> Sampling:
    """What the model file asks for. Where it is silent, or says what no sampler could mean, it is what `otherwise` says
    for a field of `Sampling`, else llama.cpp's default.
    """
    found: dict[str, Any] = {}
    defaults = replace(DEFAULTS, **dict[str, Any](otherwise))
    for field in fields(Sampling):
        name, default = field.name, getattr(defaults, field.name)
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
        self._history, self._n_vocab = history(sampling, sizes.n_ctx), sizes.n_vocab
        self._enough = enough(sampling)
        # llama.cpp copies all logits before it looks for the largest, the first of equals; numpy only looks.
        self._likeliest = grammar is None and not biases and is_greedy(sampling) and self._enough == 1

    def read(self, prompt: Sequence[int]) -> None:
        """Let penalties know what stands before the first token."""
        for token in prompt[max(0, len(prompt) - self._history) :]:
            self._api.llama_sampler_accept(self._chain, token)

    def sample(self, context: Any, index: int) -> int:
        """The next token, from the logits at `index` of the batch that `context` decoded last.

        Raises:
            BadGrammar: the grammar allows no token of the vocabulary here, and no end either.
        """
        if self._likeliest:
            token = int(logits_at(context, index, self._n_vocab).argmax())
        elif self._grammar is None:
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
        BadGrammar: the grammar does not parse, or the schema cannot be expressed.
    """
    if open_values(sampling):
        raise ValueError(f"the sampling has open values ({', '.join(open_values(sampling))}): resolve() it first")
    biases = biased_tokens(sampling, vocab)
    api = lib.llama()
    grammar = _grammar(sampling, vocab)
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    for sampler in samplers(sampling, biases, vocab, n_ctx):
        api.llama_sampler_chain_add(chain, sampler)
    return Sampler(chain, grammar, sampling, biases, _Sizes(vocab.size, n_ctx))


def check(sampling: Sampling, vocab: Vocab) -> None:
    """Tell what is wrong with a resolved `sampling` before anything is computed for it. Raises as `build`."""
    biased_tokens(sampling, vocab)
    _grammar_text(sampling)


def _grammar_text(sampling: Sampling) -> str | None:
    """The GBNF that a reply has to follow; None if there is none."""
    if sampling.schema is not None:
        try:
            return _as_grammar(json.dumps(sampling.schema))
        except RecursionError:
            raise BadGrammar(
                "The schema holds parts within parts too deep to follow, or itself.",
                hint='A schema that needs itself says so with {"$ref": "#"}.',
            ) from None
    if sampling.grammar is not None:
        gbnf.check(sampling.grammar)
    return sampling.grammar


@functools.lru_cache(maxsize=32)
def _as_grammar(text: str) -> str:
    return schema.as_grammar(json.loads(text))


def _grammar(sampling: Sampling, vocab: Vocab) -> Any:
    text = _grammar_text(sampling)
    if text is None:
        return None
    log.forget_problems()
    sampler = lib.llama().llama_sampler_init_grammar(vocab.native, text.encode(), b"root")
    if not sampler:
        reason = "; ".join(line.strip() for line in log.recent_problems()) or "no reason given"
        raise BadGrammar(f"llama.cpp does not follow the grammar: {reason}.", hint="Write it in simpler rules.")
    return sampler
