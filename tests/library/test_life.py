"""The life of a model on this machine, by the commands: found, pulled, shown, run, shared with others, removed."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import localllm
from localllm.cli.main import main
from localllm.library.pulling.partial import BLOCK
from tests.library.hub_server import HubServer
from tests.library.pulls import blocks_noted, stopped_after, unfinished
from tests.library.stores import put_ollama

SIZE = 98_362_432


class Commands:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str) -> str:
        assert main(list(args)) == 0, self._capsys.readouterr().err
        return self._capsys.readouterr().out

    def json(self, *args: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self(*args, "--json").splitlines()[-1])
        return document

    def names(self) -> list[str]:
        return self("list", "--names").splitlines()


def killed_half_way(hub: HubServer, machine: Path, name: str) -> int:
    """Pull in a process that is killed when the hub has sent half of it; the bytes that are kept."""
    places = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(machine / "hub"), "LOCALLLM_MODELS": str(machine / "models")}
    paths = {"PYTHONPATH": str(Path(localllm.__file__).parent.parent), "HF_HUB_DOWNLOAD_TIMEOUT": "60"}
    command = [sys.executable, "-m", "localllm", "pull", name]
    with stopped_after(SIZE // 2, hub, command, {**os.environ, **places, **paths}, machine) as child:
        child.kill()
    return blocks_noted(machine) * BLOCK


@pytest.mark.slow
def test_the_life_of_a_model(
    hub: HubServer, machine: Path, smollm2: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Commands(capsys)
    monkeypatch.setattr("sys.stdin", None)
    repo = machine / "served"
    repo.mkdir()
    (repo / "tiny-Q4_1.gguf").symlink_to(smollm2)
    hub.add("org/tiny-GGUF", repo)
    assert command.names() == []

    (found,) = command.json("search", "tiny")["models"]
    assert found["pull"] == "org/tiny-GGUF"
    assert main(["run", "org/tiny-GGUF:Q4_1", "Hi"]) == 1
    assert "localllm pull org/tiny-GGUF:Q4_1" in capsys.readouterr().err
    kept = killed_half_way(hub, machine, "org/tiny-GGUF")
    assert 0 < kept <= SIZE // 2 + BLOCK
    assert command.names() == []
    pulled = command.json("pull", "org/tiny-GGUF")
    assert (pulled["bytes"], pulled["downloaded"]) == (SIZE, SIZE - kept)
    assert Path(pulled["path"]).read_bytes() == smollm2.read_bytes()
    assert unfinished(machine) == []

    (row,) = command.json("list")["models"]
    # By its hash it is known to be the model of the catalogue.
    assert (row["name"], row["repo"], row["place"]) == ("smollm2:135m", "org/tiny-GGUF", "hub cache")
    assert (row["bytes"], row["last_used"]) == (SIZE, None)
    assert command.json("show", row["name"])["path"] == pulled["path"] == row["path"]
    assert command("run", row["name"], "Hi", "--max-tokens", "3", "--ctx", "256").strip()
    assert command.json("list")["models"][0]["last_used"]
    monkeypatch.setattr("sys.stdin", io.StringIO("Say hi\n"))
    chat = command("chat", "--plain", row["name"], "--ctx", "256", "--temperature", "0")
    (kept_chat,) = command.json("chats", "list")["chats"]
    assert chat.strip() == command.json("chats", "show", kept_chat["id"])["messages"][-1]["text"].strip()

    # Two other programs have it, too; nothing is stored twice, and each name runs.
    blob = put_ollama(machine / ".ollama" / "models", "small:135m", smollm2.read_bytes())
    studio = machine / ".lmstudio" / "models" / "maker" / "small" / "small-Q4_1.gguf"
    studio.parent.mkdir(parents=True)
    studio.hardlink_to(blob)
    assert command.names() == ["smollm2:135m", "maker/small:Q4_1", "small:135m"]
    assert command.json("list")["bytes"] == 2 * SIZE
    for name in ("maker/small", "small:135m"):
        assert command("run", name, "Hi", "--max-tokens", "3", "--ctx", "256").strip()
    assert command.json("import", "small:135m", "--name", "mine")["imported"][0]["how"] == "hard link"
    assert command.json("list")["bytes"] == 2 * SIZE

    assert command.json("rm", "mine", "--yes")["freed"] == 0
    assert command.json("rm", "org/tiny-GGUF", "--yes")["freed"] == SIZE
    assert command.names() == ["maker/small:Q4_1", "smollm2:135m"]
    again = command.json("pull", "org/tiny-GGUF")
    assert (again["downloaded"], command.json("list")["bytes"]) == (0, SIZE)
    assert command.json("rm", "org/tiny-GGUF", "--yes")["freed"] == 0
    assert command("run", "small:135m", "Hi", "--max-tokens", "3", "--ctx", "256").strip()


@pytest.mark.slow
def test_a_checkpoint_is_pulled_as_a_model_that_is_verified(
    hub: HubServer, machine: Path, minilm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = Commands(capsys)
    hub.add("org/mini", minilm)
    assert main(["pull", "org/mini", "--type", "Q8_0", "--json"]) == 0
    out, err = capsys.readouterr()
    pulled = json.loads(out.splitlines()[-1])
    assert "starting at the beginning" not in err
    assert "verified: all 101 tensors are in the file as planned\n" in err
    assert "token ids" in err.partition("verified:")[2]
    assert "it is called mini-Q8_0: localllm show mini-Q8_0" in err
    assert pulled["verification"]["tensors"]["count"] == 101
    assert command.names() == [pulled["called"]] == ["mini-Q8_0"]
    assert main(["verify", "mini-Q8_0", "--against", str(minilm)]) == 0
    assert command.json("rm", "mini-Q8_0", "--yes")["freed"] == pulled["bytes"]
    assert command.names() == []
