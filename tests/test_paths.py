"""Where things live: where `platformdirs`, which Textual brings, says they do."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
import pytest

from localllm import paths

VARIABLES = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")


@pytest.fixture(autouse=True)
def no_home_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOCALLLM_HOME", *VARIABLES):
        monkeypatch.delenv(variable, raising=False)


def folders() -> list[Path]:
    return [paths.home(), paths.settings_file().parent, paths.log_file().parent]


@pytest.mark.parametrize("named", [None, "{tmp}", "not/absolute", ""])
def test_folders_are_those_of_the_system(named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES if named is not None else ():
        monkeypatch.setenv(variable, (named or "").format(tmp=tmp_path / variable))
    assert folders() == [
        platformdirs.user_data_path("localllm"),
        platformdirs.user_config_path("localllm"),
        platformdirs.user_log_path("localllm"),
    ]


def test_folders_of_a_mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "darwin")
    support = tmp_path / "Library" / "Application Support" / "localllm"
    assert folders() == [support, support, tmp_path / "Library" / "Logs" / "localllm" / "log"]


def test_one_variable_moves_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path))
    assert folders() == [tmp_path, tmp_path, tmp_path / "log"]
