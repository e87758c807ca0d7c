"""The README tells the truth: its Python runs, its commands exist, its file tree is the disk."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from localllm.cli.main import build_parser

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(text)


@pytest.mark.slow
def test_the_python_runs() -> None:
    code = _block("python")
    assert len(code.strip().splitlines()) <= 7  # six lines and a blank one
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    answer, stats = done.stdout.rsplit("Stats(", 1)
    assert answer.strip()
    assert "cached_tokens=0" in stats


def test_the_two_commands_exist() -> None:
    commands = [shlex.split(line, comments=True) for line in _block("sh").splitlines()]
    assert [command[0] for command in commands] == ["tools/install", "tools/check"]
    for program, *flags in commands:
        help_text = subprocess.run([ROOT / program, "--help"], capture_output=True, text=True, check=True).stdout
        assert all(flag in help_text for flag in flags)


@pytest.mark.parametrize("line", re.findall(r"^\| `(localllm[^`]*)` \|", README, re.MULTILINE))
def test_the_commands_of_the_table_parse(line: str) -> None:
    _, *arguments = shlex.split(line)
    args = build_parser().parse_args(arguments or ["chat"])
    assert callable(args.handle)


def test_the_file_tree_is_the_disk() -> None:
    entries = [line.split()[0] for line in _block("text").splitlines()]
    depths = [len(line) - len(line.lstrip()) for line in _block("text").splitlines()]
    named = {Path("localllm" if depth else "", entry) for entry, depth in zip(entries, depths, strict=True)}
    missing = [str(path) for path in named if not (ROOT / path).exists()]
    assert not missing
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    packages = {Path(*Path(path).parts[:2]) for path in tracked if path.startswith("localllm/")}
    described = {path for path in packages if not path.name.startswith("__") and path.name != "py.typed"}
    assert described == {path for path in named if path.parts[0] == "localllm" and len(path.parts) == 2}


def test_the_picture_is_there() -> None:
    (picture,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert "<svg" in (ROOT / picture).read_text(encoding="utf-8")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
