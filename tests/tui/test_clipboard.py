"""Which program takes what is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.tui.clipboard import copy, native_command


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in ("pbcopy", "wl-copy", "xclip", "xsel", "clip.exe"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\ncat > "{tmp_path}/$(basename "$0").got"\n')
        program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("environ", "platform", "name"),
    [
        ({}, "darwin", "pbcopy"),
        ({"WAYLAND_DISPLAY": "w", "DISPLAY": ":0"}, "linux", "wl-copy"),
        ({"DISPLAY": ":0"}, "linux", "xclip"),
        ({"WSL_DISTRO_NAME": "Debian"}, "linux", "clip.exe"),
        ({}, "linux", None),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, "linux", None),
        ({"SSH_TTY": "/dev/pts/1"}, "darwin", None),
    ],
)
def test_the_program_of_the_desktop(programs: Path, environ: dict[str, str], platform: str, name: str | None) -> None:
    command = native_command(environ | {"PATH": str(programs)}, platform)
    assert (command[0] if command else None) == name


def test_without_programs_the_terminal_does_it(tmp_path: Path) -> None:
    assert native_command({"DISPLAY": ":0", "PATH": str(tmp_path)}, "linux") is None


def test_the_text_arrives(programs: Path) -> None:
    assert copy([str(programs / "xclip")], "größe 東京\n")
    assert (programs / "xclip.got").read_text(encoding="utf-8") == "größe 東京\n"


def test_a_program_that_fails_or_is_gone_says_so(tmp_path: Path) -> None:
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    assert not copy([str(failing)], "x")
    assert not copy([str(tmp_path / "gone")], "x")
