"""`localllm list`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.cli import table
from localllm.cli.main import main
from localllm.convert.header import text
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from tests.library.stores import gguf, put


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["list", *args]) == 0
    return capsys.readouterr().out


def test_the_default_model(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heading, *lines = run(capsys, "smollm2:135m").splitlines()
    assert heading.split() == ["name", "size", "type", "weights", "context", "place", "used", "fits"]
    assert [line.split() for line in lines] == [
        ["smollm2:135m", "98.4", "MB", "Q4_1", "135M", "8,192", "package", "-", "yes"]
    ]


@pytest.mark.slow
def test_for_programs(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Model.load(smollm2, Options(n_ctx=256)).close()
    document = json.loads(run(capsys, "smollm2:135m", "--json").splitlines()[-1])
    (model,) = document["models"]
    assert (model["name"], model["path"], model["bytes"]) == ("smollm2:135m", str(smollm2), 98_362_432)
    assert (model["quantization"], model["parameters"], model["context"]) == ("Q4_1", 134_515_008, 8192)
    assert model["last_used"] > 1.7e9
    assert model["fits_estimate"] is True
    assert document["bytes"] == 98_362_432


def test_names_alone_are_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["list", "--names", "--json"])
    assert caught.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_model_without_a_chat_template_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path))
    put(tmp_path / "models" / "mine-a.gguf")
    put(tmp_path / "models" / "mine-b.gguf", gguf("b", tokenizer__chat_template=text("")))
    told = run(capsys, "mine").splitlines()
    assert [line.endswith("yes, no chat template") for line in told[1:]] == [False, True]
    models = json.loads(run(capsys, "mine", "--json"))["models"]
    assert [model["has_chat_template"] for model in models] == [True, False]


def test_nothing_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no model here has 'zzz'" in run(capsys, "zzz")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "now"), (89, "now"), (60 * 5, "5 min ago"), (3600 * 5, "5 h ago"), (86400 * 3, "3 days ago")],
)
def test_how_long_ago(seconds: float, said: str) -> None:
    assert table.since(1.8e9, 1.8e9 + seconds) == said


def test_long_ago_and_never() -> None:
    assert table.since(1.8e9, 1.8e9 + 86400 * 300) == "2027-01-15"
    assert table.since(0) == "-"
