"""Fixtures for tests that run a model: one loaded engine for the folder, and greedy sampling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Stats

GREEDY = Sampling(temperature=0)


def say(model: Model, prompt: str, tokens: int = 12) -> tuple[str, int]:
    """(text, reused tokens) of a greedy completion."""
    text, stats = say_with_stats(model, prompt, tokens)
    return text, stats.cached_tokens


def say_with_stats(model: Model, prompt: str, tokens: int = 12) -> tuple[str, Stats]:
    """A greedy completion, and what it cost."""
    reply = model.complete(prompt, sampling=GREEDY, max_tokens=tokens)
    text = "".join(reply)
    assert reply.stats is not None
    return text, reply.stats


@pytest.fixture(scope="session")
def loaded(smollm2: Path) -> Iterator[Model]:
    """The default model with a context of 1,024 tokens; tests leave nothing running on it."""
    with Model.load(smollm2, Options(n_ctx=1024)) as model:
        yield model


@pytest.fixture
def model(loaded: Model) -> Model:
    """`loaded` with an empty KV cache, so that a test counts only its own tokens."""
    loaded.forget()
    return loaded
