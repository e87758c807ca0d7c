"""`localllm rm`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from localllm import settings
from localllm.cli.main import main
from tests.library.stores import put


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first models folder, with two models."""
    monkeypatch.setattr(settings, "models_dirs", lambda: [tmp_path])
    for name in ("a", "b"):
        put(tmp_path / f"{name}.gguf")
    return tmp_path


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_asking(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = (folder / "a.gguf").stat().st_size
    assert main(["rm", "a", "--yes", "--json"]) == 0
    out = capsys.readouterr()
    document = json.loads(out.out)
    assert document == {"removed": [{"name": "a", "files": [str(folder / "a.gguf")], "freed": size}], "freed": size}
    assert "a: frees 0.0 MB" in out.err
    assert [path.name for path in folder.iterdir()] == ["b.gguf"]


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("n\n", 2), ("\n", 2), ("", 2)])
def test_asks(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    monkeypatch.setattr("sys.stdin", _Terminal(answer))
    assert main(["rm", "a"]) == (0 if left == 1 else 1)
    assert len(list(folder.iterdir())) == left


def test_where_nobody_can_be_asked_nothing_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(SystemExit) as ended:
        main(["rm", "a"])
    assert ended.value.code == 2
    assert "--yes removes without asking" in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 2


def test_one_wrong_name_of_several_removes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rm", "a", "nothing", "--yes"]) == 1
    assert "There is no model 'nothing'" in capsys.readouterr().err
    assert len(list(folder.iterdir())) == 2


def test_two_names_of_one_model_count_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = (folder / "a.gguf").stat().st_size
    assert main(["rm", "a", str(folder / "a.gguf"), "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed"] == size
