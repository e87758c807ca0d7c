"""A hub on the loopback, with a cache of its own; nothing here reaches the network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from make_tiny_models import TinyLlama, write_checkpoint

from localllm import settings
from localllm.convert import verify
from localllm.library import places, ranges
from localllm.library.pulling import download, partial
from tests.library.hub_server import HubServer, hub_server


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty hub, to which `huggingface_hub` of this process talks. Retries wait hardly at all."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "agents"), raising=False)
        monkeypatch.setattr(ranges, "FIRST_WAIT", 0.001)
        for name in ("RANDOM_TEXTS", "CLASS_TEXTS", "PIECE_TEXTS", "SAMPLED_TOKENS"):
            monkeypatch.setattr(verify, name, 20)
        yield server


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny checkpoint in three shards."""
    return write_checkpoint(tmp_path / "tiny", TinyLlama(shards=3))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder of a person, with no model anywhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(settings, "models_dirs", lambda: [tmp_path / "models"])
    monkeypatch.setattr(places, "load_catalog", lambda: ())
    return tmp_path


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, and progress told often: a small file is as a large one."""
    for module in (partial, download):
        monkeypatch.setattr(module, "BLOCK", 10_000)
    monkeypatch.setattr(download, "SPAN", 30_000)
    monkeypatch.setattr(download, "LEAST", 30_000)
    monkeypatch.setattr(download, "TICK", 0.001)
