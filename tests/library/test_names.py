"""A name stands for the same file in every command and in Python.

The files are damaged, so that nothing is loaded: each command tells which file it looked into.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import localllm
from localllm import library
from localllm.cli.main import main
from localllm.errors import BadModelFile
from tests.library.stores import put, put_hub, put_ollama

NAMES = {
    "mine": "mine.gguf",
    "MINE.gguf": "mine.gguf",
    "models/mine.gguf": "mine.gguf",
    "~/models/mine.gguf": "mine.gguf",
    "qwen3:0.6b": "Qwen3-0.6B-Q8_0.gguf",
    "Qwen3:0.6B:q8_0": "Qwen3-0.6B-Q8_0.gguf",
    "org/m-GGUF": "m-Q4_K_M.gguf",
    "org/m-GGUF:q4_k_m": "m-Q4_K_M.gguf",
    "hf.co/org/m-GGUF:Q4_K_M": "m-Q4_K_M.gguf",
    "org/m-GGUF/m-Q4_K_M.gguf": "m-Q4_K_M.gguf",
    "maker/small": "small-Q4_1.gguf",
    "tiny:1b": "sha256-",
    "tiny": "sha256-",
}

COMMANDS = [
    "run {} Hi",
    pytest.param("run --max-tokens 2 --draft {} {whole} Hi", marks=pytest.mark.slow),
    "chat --plain {}",
    pytest.param("compare --max-tokens 2 {} {whole} Hi", marks=pytest.mark.slow),
    "plan {}",
    "tune {}",
    "show {}",
    "verify {}",
    "verify {whole} --against {}",
    "convert {} --preview",
    "import {}",
    "rm {}",
]

FUNCTIONS: dict[str, Callable[[str], object]] = {
    "load": localllm.load,
    "load_process": localllm.load_process,
    "plan": localllm.plan,
    "verify_model": localllm.verify_model,
    "convert_model": localllm.convert_model,
}


@pytest.fixture
def here(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a damaged model in each kind of place."""
    monkeypatch.chdir(machine)
    put(machine / "models" / "mine.gguf", b"GGUF mine")
    put(machine / "models" / "Qwen3-0.6B-Q8_0.gguf", b"GGUF qwen")
    put_hub(machine / "hub", "org/m-GGUF", "m-Q4_K_M.gguf", b"GGUF m")
    put(machine / ".lmstudio" / "models" / "maker" / "small" / "small-Q4_1.gguf", b"GGUF small")
    put_ollama(machine / ".ollama" / "models", "tiny:1b", b"GGUF tiny")
    put_ollama(machine / ".ollama" / "models", "tiny:latest", b"GGUF latest")
    return machine


def names(user: str) -> dict[str, str]:
    """The names and their files; where a checkpoint may be meant, a repo alone is that of the hub."""
    if user == "rm {}":  # what belongs to other programs is refused by its name
        return {name: file for name, file in NAMES.items() if file not in ("small-Q4_1.gguf", "sha256-")}
    takes_checkpoints = "convert" in user or "--against" in user
    return {name: file for name, file in NAMES.items() if not (takes_checkpoints and library.is_repo_name(name))}


def said(capsys: pytest.CaptureFixture[str], command: str, name: str, whole: Path) -> str:
    """What a command says of a name on which it fails, when it is asked something."""
    with suppress(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO("Hi\n"))
        assert main([word.format(name, whole=whole) for word in command.split()]) == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(here: Path, smollm2: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    for name, file in names(command).items():
        assert file in said(capsys, command, name, smollm2), name


@pytest.mark.slow
@pytest.mark.parametrize("function", FUNCTIONS)
def test_python(here: Path, function: str) -> None:
    for name, file in names(function).items():
        with pytest.raises(BadModelFile) as caught:
            FUNCTIONS[function](name)
        assert file in caught.value.message, name
