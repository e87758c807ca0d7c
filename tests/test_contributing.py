"""CONTRIBUTING.md tells the truth: the family it shows is the file, the golden is one of those that are tested."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.convert.golden import goldens

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FAMILY = "localllm/convert/families/qwen3.py"


def _block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(text)


def test_the_family_it_shows_is_the_file_and_has_twenty_lines() -> None:
    code = (ROOT / FAMILY).read_text(encoding="utf-8")
    assert _block("python") == code
    _, _, behind_the_docstring = code.split('"""', 2)
    assert len([line for line in behind_the_docstring.splitlines() if line.strip()]) <= 20


def test_the_golden_it_shows_is_the_one_that_is_tested() -> None:
    shown = json.loads(_block("json"))
    case = next(golden.case for golden in goldens() if golden.name == "qwen3")
    assert shown == {name: case[name] for name in shown}


def test_the_files_it_names_are_there() -> None:
    for name in re.findall(r"(?:tools|tests|docs|localllm|models)/[\w/.]*\w", TEXT):
        assert (ROOT / name).exists(), name
