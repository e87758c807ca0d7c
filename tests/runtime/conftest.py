"""Fixtures for tests that run a model: one loaded engine for the folder, and greedy sampling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.runtime.model import Model
from localllm.runtime.types import Options, Sampling

GREEDY = Sampling(temperature=0)


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
