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

from localllm.errors import BadGrammar
from localllm.native import handles, lib, log
from localllm.native.vocab import Vocab
from localllm.runtime.blas import blas_that_sleeps
from localllm.runtime.chain import biased_tokens, history, samplers, takes_the_likeliest
from localllm.runtime.sampling import DEFAULTS, Sampling, open_values

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


class Sampler:
    """The samplers of one reply. Not for two threads at once. Close it when the reply ends.

    `chances` has an entry for each token that was sampled, if log-probabilities were asked for.
    """

    def __init__(self, chain: Any, sampling: Sampling, n_ctx: int) -> None:
        self.chances: list[Chances] = []
        self._api = lib.llama()
        self._chain = chain
        self._history = history(sampling, n_ctx)

    def read(self, prompt: Sequence[int]) -> None:
        """Let penalties know what stands before the first token."""
        for token in prompt[max(0, len(prompt) - self._history) :]:
            self._api.llama_sampler_accept(self._chain, token)

    def sample(self, context: Any, index: int) -> int:
        """The next token, from the logits at `index` of the batch that `context` decoded last."""
        return int(self._api.llama_sampler_sample(self._chain, context, index))

    def close(self) -> None:
        """Free every sampler."""
        if self._chain is not None:
            self._api.llama_sampler_free(self._chain)
        self._chain = None


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
    if grammar is None and sampling.logprobs is None and not takes_the_likeliest(sampling, biases):
        return Sampler(chain, sampling, n_ctx)
    with blas_that_sleeps():
        from localllm.runtime.guided import GuidedSampler
    return GuidedSampler(chain, grammar, sampling, biases, vocab.size, n_ctx)


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
        from localllm.runtime.grammar import gbnf

        gbnf.check(sampling.grammar)
    return sampling.grammar


@functools.lru_cache(maxsize=32)
def _as_grammar(text: str) -> str:
    from localllm.runtime.grammar import schema

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
