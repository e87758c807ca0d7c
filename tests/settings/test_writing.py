"""Settings are written one at a time, with all that was there before, or not at all."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

from localllm import paths, settings
from localllm.errors import BadSettings
from localllm.settings import reading, writing
from localllm.settings.schema import KEYS

COMMENTED = """\
# What I like.

temperature = 0.5   # sober
models = [
  "/data/models",   # the large disk
]
"""


def write(text: str) -> Path:
    path = paths.settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_key_is_set_and_the_comments_stay() -> None:
    path = write(COMMENTED)
    writing.change("ctx", 4096)
    assert path.read_text(encoding="utf-8") == COMMENTED + "ctx = 4096\n"
    writing.change("temperature", 0.7)
    assert "temperature = 0.7   # sober\n" in path.read_text(encoding="utf-8")
    writing.change("ctx", None)
    assert path.read_text(encoding="utf-8") == COMMENTED.replace("0.5", "0.7")


def test_the_first_key_makes_the_file_and_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path / "new"))
    writing.change("kv_disk", "4GiB")
    assert settings.load().settings.kv_disk == 4 << 30


def test_a_value_that_is_wrong_is_not_written() -> None:
    path = write(COMMENTED)
    with pytest.raises(BadSettings, match="`top_p` must be a number from 0 to 1, not 2"):
        writing.change("top_p", 2)
    assert path.read_text(encoding="utf-8") == COMMENTED


def test_what_is_no_utf_8_is_not_written() -> None:
    path = write(COMMENTED)
    name = os.fsdecode(b"caf\xe9")
    with pytest.raises(BadSettings, match="no UTF-8 text any more"):
        writing.change("default_model", name)
    with pytest.raises(BadSettings, match="no UTF-8 text any more"):
        writing.replace_all(f"default_model = '{name}'\n", COMMENTED)
    assert path.read_text(encoding="utf-8") == COMMENTED


@pytest.mark.parametrize("mistake", ["ctxx = 1\n", "ctx = \n", "ctx = -1\n"])
def test_a_file_with_a_mistake_is_not_written_over(mistake: str) -> None:
    path = write(mistake)
    with pytest.raises(BadSettings, match=r"settings\.toml"):
        writing.change("seed", 1)
    assert path.read_text(encoding="utf-8") == mistake


def test_a_link_stays_a_link_and_the_mode_stays(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "settings.toml"
    real.parent.mkdir()
    real.write_text("seed = 1\n", encoding="utf-8")
    real.chmod(0o600)
    path = paths.settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(real)
    writing.change("ctx", 1024)
    assert path.is_symlink()
    assert reading.read_file(real) == {"seed": 1, "ctx": 1024}
    assert real.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_may_not_be_written_is_told() -> None:
    path = write("seed = 1\n")
    path.parent.chmod(0o500)
    with pytest.raises(BadSettings, match="cannot be written: Permission denied"):
        writing.change("ctx", 1)
    path.parent.chmod(0o700)


def test_a_folder_that_is_a_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path / "file"))
    for use in (lambda: writing.change("ctx", 1), settings.load, writing.text_now):
        with pytest.raises(BadSettings, match=r"cannot be (read|written)") as caught:
            use()
        assert "LOCALLLM_HOME" in caught.value.hint


def _set_often(name: str) -> None:
    for value in range(20):
        writing.change(name, value)


@pytest.mark.slow
def test_two_writers_do_not_lose_each_others_keys() -> None:
    names = ("ctx", "threads", "top_k", "seed")
    with multiprocessing.get_context("spawn").Pool(len(names)) as pool:
        pool.map(_set_often, names)
    assert settings.load().written == dict.fromkeys(names, 19)
    leftovers = {file.name for file in paths.settings_file().parent.iterdir()}
    assert leftovers == {"settings.toml", ".settings.toml.lock"}


def test_the_template_names_every_key_and_sets_none() -> None:
    text = writing.template()
    assert all(f"#{name} = \n" in text for name in KEYS)
    write(text)
    assert settings.load().written == {}
