"""Checkpoints to convert: tiny ones made for each test, and the default model rebuilt once for the slow ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from make_tiny_models import TinyLlama, write_checkpoint
from rebuild_checkpoint import rebuild

from localllm.convert import verify
from tests.convert.helpers import MakeTiny


@pytest.fixture(autouse=True)
def _few_random_texts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that are not of tokenizers prove them on the built-in texts and a few random ones."""
    if request.node.get_closest_marker("all_texts") is None:
        for name in ("RANDOM_TEXTS", "CLASS_TEXTS", "PIECE_TEXTS", "SAMPLED_TOKENS"):
            monkeypatch.setattr(verify, name, 20)


@pytest.fixture
def tiny(tmp_path: Path) -> MakeTiny:
    """Makes a checkpoint: `tiny(dtype="f32", shards=2, config={...})`, see `TinyLlama`."""

    def make(name: str = "tiny", tokenizer: dict[str, Any] | None = None, **numbers: Any) -> Path:
        return write_checkpoint(tmp_path / name, TinyLlama(**numbers), tokenizer)

    return make


@pytest.fixture(scope="session")
def rebuilt(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The default model as a checkpoint in `bf16`, `f16` or `f32`, each rebuilt when first asked for."""
    made: dict[str, Path] = {}

    def make(dtype: str) -> Path:
        if dtype not in made:
            folder = tmp_path_factory.mktemp("rebuilt") / f"SmolLM2-135M-Instruct-{dtype}"
            made[dtype] = rebuild(smollm2, folder, dtype, shards=2 if dtype == "f16" else 1)
        return made[dtype]

    yield make
    for folder in made.values():
        for file in folder.glob("*.safetensors"):
            file.unlink()
