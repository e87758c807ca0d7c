"""The settings: one file and the environment, and no mistake that is passed by."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm import paths, settings
from localllm.errors import BadSettings
from localllm.library import DEFAULT
from localllm.native.handles import KV_TYPE_IDS
from localllm.settings import kinds
from localllm.settings.reading import unknown_variables
from localllm.settings.schema import KEYS, UserSettings


def write(text: str | bytes) -> Path:
    path = paths.settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refuse() -> BadSettings:
    with pytest.raises(BadSettings) as caught:
        settings.load()
    return caught.value


def test_without_a_file_nothing_is_set() -> None:
    loaded = settings.load()
    assert loaded.settings == UserSettings()
    assert loaded.sources == {}


def test_the_file_is_beside_everything_else_of_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOCALLLM_HOME", str(tmp_path))
    assert paths.settings_file() == tmp_path / "settings.toml"
    monkeypatch.delenv("LOCALLLM_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert paths.settings_file() == tmp_path / "config" / "localllm" / "settings.toml"


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("ctx = 4096\nkv_disk = '1GiB'\n")
    monkeypatch.setenv("LOCALLLM_CTX", "2048")
    loaded = settings.load()
    assert (loaded.settings.ctx, loaded.settings.kv_disk) == (2048, 1 << 30)
    assert loaded.sources == {"ctx": "environment", "kv_disk": "file"}


def test_auto_in_the_environment_goes_before_a_number_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write("gpu_layers = 10\n")
    assert settings.load().settings.gpu_layers == 10
    monkeypatch.setenv("LOCALLLM_GPU_LAYERS", "auto")
    assert settings.load().settings.gpu_layers is None


@pytest.mark.parametrize(
    ("text", "told", "hint"),
    [
        ("# mine\nctxx = 1\n", "line 2: there is no setting `ctxx`", "Nearest: ctx"),
        ("[engine]\nctx = 1\n", "line 1: there is no setting `engine`", "config edit"),
        ("seed = 1\n\nctx = -1\n", "line 3: `ctx` must be a whole number from 0 to 2,147,483,647, not -1", "config"),
        ("ctx = true\n", "line 1: `ctx` must be a whole number", ""),
        ('temperature = "hot"\n', "`temperature` must be a number from 0 to", ""),
        ("temperature = nan\n", "`temperature` must be a number", ""),
        ("top_p = 1.5\n", "`top_p` must be a number from 0 to 1, not 1.5", ""),
        ('gpu_layers = "all"\n', "or auto, not 'all'", ""),
        ('kv_type = "q9_0"\n', "`kv_type` must be auto, one of f32", ""),
        ('kv_ram = "much"\n', "`kv_ram` must be an amount of memory", ""),
        ('window = "slide"\n', "one of stop, drop-oldest-turns, shift", ""),
        ('models = "~/models"\n', "`models` must be a list of folders", ""),
        ('models = ["here"]\n', "`models` must be a list of folders from the root on", ""),
        ('models = ["~nobody-of-this-name/models"]\n', "from the root on or from ~", ""),
        ('default_model = ""\n', "`default_model` must be a text", ""),
        ("ctx = \n", "are not valid TOML", "config edit"),
        ("ctx = 1\nctx = 2\n", "are not valid TOML", ""),
        (b"theme = '\xff'\n", "no UTF-8 text, at byte 9", ""),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(text: str | bytes, told: str, hint: str) -> None:
    path = write(text)
    error = refuse()
    assert told in error.message
    assert str(path) in error.message
    assert hint in error.hint


def test_a_file_that_cannot_be_read_is_told() -> None:
    paths.settings_file().mkdir(parents=True)
    assert "cannot be read" in refuse().message


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CTX", "many"),
        ("TEMPERATURE", "-1"),
        ("KV_TYPE", "f16/x"),
        ("ANIMATION", "FULL"),
        ("MODELS", "~nobody-of-this-name"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    variable: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LOCALLLM_{variable}", text)
    error, said = refuse(), KEYS[variable.lower()].kind.said
    assert error.message == f"LOCALLLM_{variable} in the environment must be {said}, not {text!r}."
    assert variable.lower() in error.hint


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_CTX", "")
    assert settings.load().settings.ctx is None


def test_folders_of_the_environment_may_be_relative(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    monkeypatch.setenv("LOCALLLM_MODELS", "here:~/there")
    assert settings.models_dirs()[:2] == [tmp_path / "here", tmp_path / "person" / "there"]


def test_the_home_of_a_user_who_is_not_there_is_a_name_as_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALLLM_HOME", "~nobody-of-this-name")
    assert (paths.home(), paths.log_file().parent.parent) == (Path("~nobody-of-this-name"),) * 2
    write("ctx = 512\n")
    assert settings.load().settings.ctx == 512
    assert (tmp_path / "~nobody-of-this-name" / "settings.toml").is_file()


def test_variables_that_are_no_settings_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_CTXX", "1")
    assert unknown_variables() == [("LOCALLLM_CTXX", "LOCALLLM_CTX")]


def test_the_defaults_that_are_told_are_those_of_the_runtime() -> None:
    assert KEYS["default_model"].otherwise == DEFAULT
    assert set(kinds.KV_TYPES) == set(KV_TYPE_IDS)


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512MiB", 512 << 20), ("1.5GB", 1_500_000_000), ("12", 12), ("2 KiB", 2048)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert kinds.SIZE.check(kinds.SIZE.from_text(text)) == size
