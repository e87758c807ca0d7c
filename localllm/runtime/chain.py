"""llama.cpp's samplers as one chain for a resolved `Sampling`, in the order of llama.cpp's own programs.

Knows which of them are off, how far back they look, and how many tokens they can pick from.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from localllm.native import lib
from localllm.native.vocab import Vocab, encoded
from localllm.runtime.sampling import FORBIDDEN, Sampling

_MIROSTAT_TOKENS = 100
"""How many tokens Mirostat 1 estimates from, as in llama.cpp's programs and in the paper (arXiv:2007.14966)."""


def biased_tokens(sampling: Sampling, vocab: Vocab) -> dict[int, float]:
    """The logit bias of each token, those that the model file suppresses included.

    Raises:
        ValueError: a token that the vocabulary does not have, or a text that is not one token.
    """
    biases = dict.fromkeys(vocab.suppressed(), FORBIDDEN)
    if sampling.constrained:
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


def samplers(sampling: Sampling, biases: dict[int, float], vocab: Vocab, n_ctx: int) -> list[Any]:
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


def enough(sampling: Sampling) -> int | None:
    """How many of the likeliest tokens hold all that the chain can pick, if it keeps their order up to there."""
    if sampling.mirostat:
        return None
    active = [name for name in sampling.samplers or () if not _is_off(name, sampling)]
    if is_greedy(sampling):
        return None if {"penalties", "dry"} & set(active) else 1
    return sampling.top_k if active[:1] == ["top_k"] else None


def takes_the_likeliest(sampling: Sampling, biases: dict[int, float]) -> bool:
    """Whether a resolved `sampling` picks the token with the largest logit as it is."""
    return is_greedy(sampling) and not biases and enough(sampling) == 1


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
    breakers = [encoded(text) for text in sampling.dry_sequence_breakers or () if text]
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


def history(sampling: Sampling, n_ctx: int) -> int:
    """How many tokens of the prompt some sampler wants to know."""
    if sampling.mirostat:
        return 0
    used = [name for name in sampling.samplers or () if not _is_off(name, sampling)]
    windows = {"penalties": sampling.repeat_last_n, "dry": sampling.dry_penalty_last_n}
    return max((_window(windows[name], n_ctx) for name in used if name in windows), default=0)
