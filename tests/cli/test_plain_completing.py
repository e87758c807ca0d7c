"""What Tab writes in a plain chat."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.cli.plain_completing import BREAKS, completions


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("Draft.md", "data one.csv", "docs/inner.md"):
        (tmp_path / name).write_text("x")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("/ret", ["/retry"]),
        ("/sa", ["/save "]),
        ("/comp", []),  # which needs a screen
        ("/set te", []),
        ("see @dr", ["@Draft.md "]),
        ("see @da", ['@"data one.csv" ']),
        ("see @docs/", ["@docs/inner.md "]),
        ('see @"data o', ['one.csv" ']),
        ("see @d", ["@docs/", "@data one.csv ", "@Draft.md "]),  # quotes would come before what was typed
        ("me@d", []),
        ("/attach da", ["data one.csv"]),
        ("/attach data o", ["one.csv"]),
        ("/attach DATA o", []),  # another name, where capitals count
        ("/save docs/", ["docs/inner.md"]),
        ("", []),
    ],
)
def test_the_end_of_a_line(line: str, found: list[str]) -> None:
    begin = 1 + max(line.rfind(character) for character in BREAKS)
    assert completions(line, begin, first=True) == found


def test_in_a_message_of_several_lines_a_slash_is_no_command() -> None:
    assert completions("/ret", 0, first=False) == []
    assert completions("@dr", 0, first=False) == ["@Draft.md "]
