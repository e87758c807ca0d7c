"""`localllm chat` outside the app: what is wrong is said before the screen changes."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest

from localllm import paths
from localllm.chat.conversation import Conversation
from localllm.cli import chat
from localllm.cli.from_settings import fill
from localllm.cli.main import build_parser, main
from localllm.cli.options import engine_options
from localllm.errors import MissingPackage, ModelNotFound
from localllm.runtime.options import Options
from localllm.tui.loader import Wanted


def test_without_a_terminal_it_names_the_command_for_pipes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat"]) == 1
    error = capsys.readouterr().err
    assert "needs a terminal" in error
    assert "localllm run" in error


def test_bare_localllm_is_chat(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 1
    assert "The chat needs a terminal" in capsys.readouterr().err


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "textual" else find(name))
    with pytest.raises(MissingPackage, match="textual") as caught:
        chat._check_packages()
    assert 'pip install "localllm[chat]"' in caught.value.hint


def test_flags_become_options() -> None:
    args = fill(
        build_parser().parse_args(["chat", "m.gguf", "--system", "Be brief.", "--ctx", "99", "--temperature", "0"])
    )
    assert (args.model, args.system, args.ctx, args.temperature) == ("m.gguf", "Be brief.", 99, 0.0)


def in_terminal(*arguments: str) -> str:
    """What the command prints in a terminal; it must end by itself."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "localllm", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        timeout=60,
        env=os.environ | {"TERM": "xterm-256color"},
        check=False,
    )
    os.close(theirs)
    with os.fdopen(ours, "rb") as terminal:
        text = terminal.read1(1 << 16).decode()
    assert done.returncode == 1
    assert "\x1b" not in text, "the screen was touched"
    return text


@pytest.mark.slow
def test_a_model_that_is_not_there_is_said_on_the_plain_screen() -> None:
    assert "nowhere.gguf" in in_terminal("chat", "nowhere.gguf")


@pytest.mark.slow
def test_damaged_chats_are_said_on_the_plain_screen_and_left_alone(tmp_path: Path) -> None:
    path = paths.chats_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not a database at all" * 500)
    model = tmp_path / "some.gguf"
    model.write_bytes(b"GGUF")
    text = in_terminal("chat", str(model))
    assert "is damaged" in text.replace("\r\n", "")
    assert path.read_bytes().startswith(b"not a database")


@pytest.mark.slow
def test_a_worker_that_is_not_there_is_said_on_the_plain_screen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobody = f"127.0.0.1:{server.getsockname()[1]}"
    assert f"There is no worker at {nobody}" in in_terminal("chat", "--worker", nobody)


def test_the_settings_of_the_app_reach_it(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    class App:
        return_code = 0

        def __init__(self, *_: object, **looks: object) -> None:
            given.update(looks)

        def run(self) -> None:
            """Show nothing."""

        def close(self) -> None:
            """Nothing was opened."""

    file = paths.settings_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("theme = 'nord'\nmemory_pane = 'hidden'\n", encoding="utf-8")
    monkeypatch.setenv("LOCALLLM_ANIMATION", "none")
    monkeypatch.setenv("LOCALLLM_TITLES", "model")
    monkeypatch.setattr(chat, "_check_terminal", lambda: None)
    monkeypatch.setattr("localllm.tui.app.ChatApp", App)
    assert main(["chat", str(smollm2), "--max-tokens", "7"]) == 0
    assert (given["theme"], given["animation"], given["titles"]) == ("nord", "none", True)
    assert (given["max_tokens"], given["panes"]) == (7, {"memory": False})


@pytest.mark.slow
def test_a_theme_that_there_is_not_is_said_on_the_plain_screen(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_THEME", "textual-lite")
    assert "There is no theme 'textual-lite'" in in_terminal("chat", str(smollm2))


@pytest.mark.slow
def test_the_app_ends_with_its_terminal_where_no_signal_tells_it(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "localllm"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
        env=os.environ | {"TERM": "xterm-256color", "LOCALLLM_HOME": str(tmp_path)},
    ) as app:
        os.close(theirs)
        shown = b""
        while b"rite a message" not in shown and select.select([ours], [], [], 60)[0]:
            shown += os.read(ours, 1 << 16)
        os.close(ours)
        assert app.wait(timeout=60) == 128 + signal.SIGHUP


def wanted(chat_of_its_own: Conversation | None, *flags: str) -> tuple[Wanted, Options]:
    args = fill(build_parser().parse_args(["chat", *flags]))
    usual = engine_options(args)
    return chat._wanted(args, chat_of_its_own, usual), usual


def used_with(**settings: object) -> Conversation:
    return Conversation(settings=dict(settings))


def test_a_chat_that_goes_on_has_its_model_and_its_settings(smollm2: Path, smollm2_q2: Path) -> None:
    own = used_with(model=str(smollm2_q2), engine={"n_ctx": 640, "kv_type": "q8_0"})
    found, usual = wanted(own)
    assert found == Wanted(smollm2_q2, replace(usual, n_ctx=640, kv_type="q8_0"))
    assert usual.n_ctx == 0, "other chats are loaded as usual"
    assert wanted(used_with())[0].path == smollm2
    assert wanted(None)[0].path == smollm2


def test_what_is_said_now_goes_before_what_a_chat_was_used_with(smollm2: Path, smollm2_q2: Path) -> None:
    own = used_with(model=str(smollm2_q2), engine={"n_ctx": 640, "threads": 1})
    found, usual = wanted(own, str(smollm2), "--ctx", "512", "--gpu-layers", "0")
    assert found == Wanted(smollm2, replace(usual, threads=1))
    assert (usual.n_ctx, usual.gpu_layers) == (512, 0)
    assert own.settings == {"model": str(smollm2), "engine": {"n_ctx": 512, "gpu_layers": 0, "threads": 1}}


def test_a_chat_whose_model_is_gone_goes_on_with_the_default(smollm2: Path) -> None:
    gone = used_with(model="nowhere/gone.gguf")
    assert wanted(gone)[0].path == smollm2
    assert wanted(used_with(engine={"n_ctx": "many"}))[0].path == smollm2
    with pytest.raises(ModelNotFound, match=r"missing\.gguf"):
        wanted(gone, "missing.gguf")
