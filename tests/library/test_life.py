"""The life of a model on this machine, by the commands: found, pulled, shown, run, shared with others, removed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localllm.cli.main import main
from tests.library.hub_server import HubServer
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
    pulled = command.json("pull", "org/tiny-GGUF")
    assert (pulled["bytes"], pulled["downloaded"]) == (SIZE, SIZE)

    (row,) = command.json("list")["models"]
    # By its hash it is known to be the model of the catalogue.
    assert (row["name"], row["repo"], row["place"]) == ("smollm2:135m", "org/tiny-GGUF", "hub cache")
    assert (row["bytes"], row["last_used"]) == (SIZE, None)
    assert command.json("show", row["name"])["path"] == pulled["path"] == row["path"]
    assert command("run", row["name"], "Hi", "--max-tokens", "3", "--ctx", "256").strip()
    assert command.json("list")["models"][0]["last_used"]

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
