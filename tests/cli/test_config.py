"""`localllm config`, and that every setting has the effect that it is said to have."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import localllm
from localllm import paths
from localllm.cli import options, sampling_flags
from localllm.cli.from_settings import fill
from localllm.cli.main import build_parser, main
from localllm.errors import BadSettings
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.settings.schema import KEYS


@pytest.fixture(autouse=True)
def _nothing_is_piped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))


def config(*words: str) -> int:
    return main(["config", *words])


def write(text: str) -> Path:
    path = paths.settings_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_set_get_unset(capsys: pytest.CaptureFixture[str]) -> None:
    assert config("get", "ctx") == 0
    assert config("set", "ctx", "4096") == 0
    assert config("get", "CTX") == 0
    assert config("unset", "ctx") == 0
    assert config("get", "ctx") == 0
    said = capsys.readouterr()
    assert said.out == "0\n4096\n0\n"
    file = paths.settings_file()
    assert said.err == f"ctx is 4096 from now on, in {file}\nctx is the default, 0, again, in {file}\n"


def test_the_list_tells_value_source_and_meaning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("temperature = 0.5\n")
    monkeypatch.setenv("LOCALLLM_CTX", "1024")
    monkeypatch.setenv("LOCALLLM_CTXX", "1024")
    assert config() == 0
    said = capsys.readouterr()
    rows = {line.split()[0]: line for line in said.out.splitlines() if line}
    assert list(rows) == list(KEYS)
    assert rows["temperature"].split()[1:3] == ["0.5", "file"]
    assert rows["ctx"].split()[1:3] == ["1024", "environment"]
    assert rows["seed"].split()[1:3] == ["drawn", "default"]
    assert "GPU" in rows["gpu_layers"]
    assert "LOCALLLM_CTXX in the environment is no setting; did you mean LOCALLLM_CTX?" in said.err


def test_json_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert config("set", "kv_disk", "2GiB", "--json") == 0
    assert config("get", "kv_disk", "--json") == 0
    assert config("path", "--json") == 0
    assert config("list", "--json") == 0
    done, got, path, listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert done == {"key": "kv_disk", "value": "2GiB"}
    assert (got["value"], got["source"], got["variable"]) == ("2GiB", "file", "LOCALLLM_KV_DISK")
    assert path == {"path": str(paths.settings_file())}
    assert listed["settings"]["kv_disk"]["value"] == "2GiB"
    assert listed["settings"]["ctx"] == {
        "value": None,
        "source": "default",
        "default": "0",
        "variable": "LOCALLLM_CTX",
        "meaning": KEYS["ctx"].meaning,
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["set", "ctxx", "1"], "there is no setting 'ctxx'. Nearest: ctx"),
        (["set", "ctx"], "`set` needs KEY and VALUE"),
        (["get"], "`get` needs KEY"),
        (["list", "ctx"], "`list` needs neither KEY nor VALUE"),
        (["unset", "ctx", "1"], "`unset` needs KEY"),
        (["delete"], "invalid choice"),
    ],
)
def test_wrong_usage(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        config(*words)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_a_wrong_value_is_told_and_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert config("set", "top_p", "much") == 1
    assert "`top_p` must be a number from 0 to 1, not 'much'" in capsys.readouterr().err
    assert not paths.settings_file().exists()


def test_a_variable_that_goes_before_what_was_set_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALLLM_SEED", "1")
    assert config("set", "seed", "2") == 0
    assert "LOCALLLM_SEED in the environment goes before it" in capsys.readouterr().err


def test_a_number_below_zero_is_a_value() -> None:
    assert config("set", "repeat_last_n", "-1") == 0
    assert paths.settings_file().read_text(encoding="utf-8") == "repeat_last_n = -1\n"


def editor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "an editor"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("VISUAL", f"'{program}'")


def test_edit_begins_with_every_key_and_keeps_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(tmp_path, monkeypatch, 'echo "seed = 7" >> "$1"')
    assert config("edit") == 0
    text = paths.settings_file().read_text(encoding="utf-8")
    assert text.endswith("seed = 7\n")
    assert "#theme = " in text
    assert not list(paths.settings_file().parent.glob("*draft*"))


def test_a_mistake_while_editing_changes_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("seed = 1\n")
    editor(tmp_path, monkeypatch, 'echo "ctx = many" >> "$1"')
    assert config("edit") == 1
    said = capsys.readouterr().err
    assert "not valid TOML" in said
    assert path.read_text(encoding="utf-8") == "seed = 1\n"
    (draft,) = path.parent.glob("*draft*")
    assert str(draft) in said
    editor(tmp_path, monkeypatch, 'sed -i "s/many/4096/" "$1"')
    assert config("edit") == 0
    assert path.read_text(encoding="utf-8") == "seed = 1\nctx = 4096\n"
    assert not draft.exists()


def test_what_another_wrote_while_editing_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("seed = 1\n")
    editor(tmp_path, monkeypatch, f'echo "seed = 2" > "{path}"; echo "ctx = 1" >> "$1"')
    assert config("edit") == 1
    assert "changed by somebody else" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "seed = 2\n"


@pytest.mark.parametrize(("command", "told"), [("false", "exit code 1"), ("/no/editor", "cannot be started")])
def test_an_editor_that_fails(
    command: str, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISUAL", command)
    assert config("edit") == 1
    assert told in capsys.readouterr().err
    assert not paths.settings_file().exists()


ENGINE = {
    "ctx": ("ctx = 1024", Options(n_ctx=1024)),
    "threads": ("threads = 3", Options(threads=3)),
    "gpu_layers": ("gpu_layers = 2", Options(gpu_layers=2)),
    "kv_type": ("kv_type = 'q8_0/f16'", Options(kv_type="q8_0/f16")),
    "kv_ram": ("kv_ram = '1GiB'", Options(kv_ram=1 << 30)),
    "kv_disk": ("kv_disk = 1000", Options(kv_disk=1000)),
    "window": ("window = 'shift'", Options(window="shift")),
    "flash_attention": ("flash_attention = 'on'", Options(flash_attention=True)),
}
SAMPLING = {
    "temperature": ("temperature = 0.1", Sampling(temperature=0.1)),
    "top_k": ("top_k = 3", Sampling(top_k=3)),
    "top_p": ("top_p = 0.3", Sampling(top_p=0.3)),
    "min_p": ("min_p = 0.2", Sampling(min_p=0.2)),
    "repeat_penalty": ("repeat_penalty = 1.3", Sampling(repeat_penalty=1.3)),
    "presence_penalty": ("presence_penalty = -0.5", Sampling(presence_penalty=-0.5)),
    "frequency_penalty": ("frequency_penalty = 0.5", Sampling(frequency_penalty=0.5)),
    "repeat_last_n": ("repeat_last_n = -1", Sampling(repeat_last_n=-1)),
    "seed": ("seed = 9", Sampling(seed=9)),
}


def test_every_key_is_proven_here() -> None:
    here = {"default_model", "models", "theme", "animation", "chats_pane", "memory_pane", "titles"}
    assert ENGINE.keys() | SAMPLING.keys() | here == KEYS.keys()


@pytest.mark.parametrize("command", ["run", "chat"])
@pytest.mark.parametrize("key", ENGINE)
def test_a_setting_is_what_a_model_is_loaded_with(key: str, command: str) -> None:
    text, expected = ENGINE[key]
    write(text)
    disk = {"kv_disk": 2 << 30} if command == "chat" and key != "kv_disk" else {}
    found = options.engine_options(fill(build_parser().parse_args([command])))
    assert found == Options(**{**vars(expected), **disk})


@pytest.mark.parametrize("command", ["run", "chat"])
@pytest.mark.parametrize("key", SAMPLING)
def test_a_setting_is_how_tokens_are_picked(key: str, command: str) -> None:
    text, expected = SAMPLING[key]
    write(text)
    assert sampling_flags.sampling(fill(build_parser().parse_args([command]))) == expected


@pytest.mark.parametrize("key", [*ENGINE, *SAMPLING])
def test_a_flag_goes_before_the_environment_and_that_before_the_file(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = {**ENGINE, **SAMPLING}[key]
    others = {"kv_type": ("q4_0", "f32"), "window": ("drop-oldest-turns", "stop"), "flash_attention": ("off", "auto")}
    variable, flag = others.get(key, ("1", "0" if key != "repeat_penalty" else "2"))

    def value(*flags: str) -> object:
        return getattr(fill(build_parser().parse_args(["run", *flags])), key)

    default = value()
    write(text)
    of_the_file = value()
    monkeypatch.setenv(KEYS[key].variable, variable)
    of_the_environment = value()
    of_the_flag = value("--" + key.replace("_", "-"), flag)
    assert str(of_the_environment) in (variable, f"{variable}.0")
    assert str(of_the_flag) in (flag, f"{flag}.0")
    assert of_the_file not in (default, of_the_environment, of_the_flag)


@pytest.mark.slow
def test_run_loads_and_answers_with_the_settings(smollm2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"ctx = 512\ntemperature = 0\nseed = 5\ndefault_model = '{smollm2}'\n")
    assert main(["run", "--json", "--max-tokens", "2", "Hi"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["n_ctx"] == 512
    assert answer["path"] == str(smollm2)
    assert (answer["sampling"]["temperature"], answer["sampling"]["seed"]) == (0, 5)


def test_python_takes_the_default_model_and_the_folders_and_nothing_else(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my-model.gguf").symlink_to(smollm2)
    write(f"models = ['{folder}']\ndefault_model = 'my-model'\nctx = 512\n")
    plan = localllm.plan()
    assert plan.path == folder / "my-model.gguf"
    assert plan.n_ctx == 8192


def test_a_default_model_that_is_not_here_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    write("default_model = 'qwen4:1b'\n")
    assert main(["run", "--max-tokens", "1", "one prompt"]) == 1
    said = capsys.readouterr().err
    assert "The default model of the settings: There is no model 'qwen4:1b'" in said
    assert "config set default_model" in said


def test_a_mistake_in_the_settings_ends_a_command_that_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    write("ctxx = 1\n")
    assert main(["run", "one prompt"]) == 1
    assert "there is no setting `ctxx`" in capsys.readouterr().err
    with pytest.raises(BadSettings):
        localllm.plan()
    assert main(["config", "path"]) == 0


def test_completion_offers_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert "default_model" in capsys.readouterr().out


def test_a_draft_of_older_settings_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write("seed = 1\n")
    editor(tmp_path, monkeypatch, 'echo "ctx = many" >> "$1"')
    assert config("edit") == 1
    assert config("set", "top_k", "5") == 0
    editor(tmp_path, monkeypatch, 'echo "ctx = 9" >> "$1"')
    assert config("edit") == 0
    assert path.read_text(encoding="utf-8") == "seed = 1\ntop_k = 5\nctx = 9\n"
    assert "unfinished edit of what the settings were before" in capsys.readouterr().err


def test_a_file_with_a_mistake_is_mended_by_editing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("ctxx = 4096\n")
    editor(tmp_path, monkeypatch, 'sed -i "s/ctxx/ctx/" "$1"')
    assert config("edit") == 0
    assert path.read_text(encoding="utf-8") == "ctx = 4096\n"


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["config", "--help"]])
def test_help_reads_no_settings(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write("ctxx = 1\n")
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 0
    assert "FromSettings" not in capsys.readouterr().out


def test_the_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        config("--help")
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in KEYS)
    assert "LOCALLLM_CTX for ctx" in said
