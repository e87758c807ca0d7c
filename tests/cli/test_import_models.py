"""`localllm import`, and the life of an imported model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm.cli.main import main
from localllm.convert.header import text
from tests.library.stores import gguf, put


@pytest.mark.slow
def test_the_life_of_an_imported_model(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path / "home"))
    assert main(["import", str(smollm2), "--name", "mine", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (found,) = document["imported"]
    path = tmp_path / "home" / "models" / "mine.gguf"
    assert (found["name"], found["path"], found["bytes"]) == ("mine", str(path), 98_362_432)
    assert found["how"] in ("hard link", "symbolic link")

    monkeypatch.setattr("sys.stdin", None)
    assert main(["run", "mine", "Hi", "--temperature", "0", "--ctx", "256", "--max-tokens", "4"]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["list", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["last_used"]

    assert main(["rm", "mine", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed"] == 0
    assert not path.exists()
    assert smollm2.exists()


@pytest.mark.parametrize("template", ["", "{{ messages }}"])
def test_that_a_model_has_no_chat_template_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path / "home"))
    file = put(tmp_path / "elsewhere" / "m.gguf", gguf("m", tokenizer__chat_template=text(template)))
    assert main(["import", str(file)]) == 0
    assert ("it has no chat template" in capsys.readouterr().err) is not bool(template)


def test_moved(smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(smollm2), "--move"]) == 1
    assert "belongs to package" in capsys.readouterr().err
    assert smollm2.exists()


def test_a_name_that_leads_out(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(smollm2), "--name", "../../x"]) == 1
    assert "would lead out of the models folder" in capsys.readouterr().err


def test_a_name_without_its_flag_is_told_the_flag(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(smollm2), "mine-of-old"]) == 1
    assert f"localllm import {smollm2} --name mine-of-old" in capsys.readouterr().err
