"""Picks tokens where numpy looks at all logits: the likeliest, by a grammar, or with the probability of each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.errors import BadGrammar
from localllm.native.candidates import Candidates, logits_at
from localllm.runtime.chain import enough, takes_the_likeliest
from localllm.runtime.sampler import Chances, Sampler
from localllm.runtime.sampling import FORBIDDEN, Sampling

_FIRST = 512
"""How many of the likeliest tokens a grammar is asked about before it is asked about all."""


def chances(logits: NDArray[np.float32], token: int, count: int) -> Chances:
    """Log-probabilities from the `logits` float32 [n_vocab] of the model: of `token`, and of the `count` likeliest."""
    wide = logits.astype(np.float64)
    highest = wide.max()
    logprobs = np.maximum(wide - highest - np.log(np.exp(wide - highest).sum()), FORBIDDEN)
    count = min(count, len(logits))
    likeliest = np.argpartition(-logprobs, count - 1)[:count] if count else np.arange(0)
    order = likeliest[np.argsort(-logprobs[likeliest], kind="stable")]
    return Chances(float(logprobs[token]), tuple((int(other), float(logprobs[other])) for other in order))


class GuidedSampler(Sampler):
    """A sampler for a reply that takes the likeliest tokens, follows the sampler `grammar`, if that is not None, or
    tells log-probabilities, if `sampling` asks for them."""

    def __init__(
        self, chain: Any, grammar: Any, sampling: Sampling, biases: dict[int, float], n_vocab: int, n_ctx: int
    ) -> None:
        super().__init__(chain, sampling, n_ctx)
        self._grammar, self._biases, self._n_vocab = grammar, biases, n_vocab
        self._logprobs = sampling.logprobs
        self._enough = enough(sampling)
        self._likeliest = grammar is None and takes_the_likeliest(sampling, biases)

    def sample(self, context: Any, index: int) -> int:
        """The next token, from the logits at `index` of the batch that `context` decoded last.

        Raises:
            BadGrammar: the grammar allows no token of the vocabulary here, and no end either.
        """
        if self._likeliest:
            # llama.cpp copies all logits before it looks for the largest, the first of equals; numpy only looks.
            token = int(logits_at(context, index, self._n_vocab).argmax())
        elif self._grammar is None:
            token = super().sample(context, index)
        else:
            token = self._follow(logits_at(context, index, self._n_vocab))
        if self._logprobs is not None:
            self.chances.append(chances(logits_at(context, index, self._n_vocab), token, self._logprobs))
        return token

    def close(self) -> None:
        """Free every sampler."""
        super().close()
        if self._grammar is not None:
            self._api.llama_sampler_free(self._grammar)
        self._grammar = None

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
