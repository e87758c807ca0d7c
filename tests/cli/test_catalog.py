"""`localllm catalog`: the catalogue for people and for programs."""

from __future__ import annotations

import json

import pytest

from localllm.cli.main import main
from localllm.library import inventory
from localllm.library.catalog import load_catalog


@pytest.fixture(autouse=True)
def _six_gigabytes_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "free_memory", lambda: 6_000_000_000)


def test_every_quantization_has_a_row_with_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog"]) == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == ["name", "type", "download", "memory", "fits", "context", "licence"]
    assert len(rows) == sum(len(entry.files) for entry in load_catalog())
    fits = {row.split()[0]: row.split()[6] for row in rows}
    assert fits["smollm2:135m"] == "yes"
    assert fits["qwen3:4b:Q8_0"] == "yes"
    assert fits["llama3.3:70b:Q8_0"] == "no"


def test_words_choose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "QWEN3", "q8_0", "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [model["name"] for model in models][:2] == ["qwen3:0.6b", "qwen3:1.7b"]
    assert {model["quantization"] for model in models} == {"Q8_0"}
    assert main(["catalog", "nothing-like-it"]) == 0
    assert "`localllm search` asks the hub" in capsys.readouterr().out


def test_json_tells_what_is_not_known_as_null(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "70b", "q8_0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (model,) = found["models"]
    assert found["free"] == 6_000_000_000
    assert len(model["files"]) == 2
    assert model["sha256"] is None
    assert model["memory"] > model["weights"] > 74_000_000_000
    assert model["fits"] is False
