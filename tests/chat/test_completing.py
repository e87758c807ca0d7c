"""What a half-written word may become."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.chat.completing import Word, command_choices, path_choices, word_before


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("/", Word("command", "/", 0)),
        ("/re", Word("command", "/re", 0)),
        ("/re ", None),
        ("//re", None),
        ("say /re", None),
        ("/attach ", Word("attach", "", 8)),
        ("/attach docs/a b", Word("attach", "docs/a b", 8)),
        ("/save docs/a b", Word("save", "docs/a b", 6)),
        ("/export a", Word("save", "a", 8)),
        ("@", Word("mention", "", 1)),
        ("see @doc", Word("mention", "doc", 5)),
        ('see @"a b', Word("mention", '"a b', 5)),
        ("me@doc", None),
        ("see @doc and", None),
    ],
)
def test_the_word_at_the_cursor(line: str, word: Word | None) -> None:
    assert word_before(line, first=True) == word


def test_only_the_first_line_is_a_command() -> None:
    assert word_before("/re", first=False) is None
    assert word_before("@a", first=False) == Word("mention", "a", 1)


def test_commands_by_their_beginning_and_other_names() -> None:
    assert [choice.text for choice in command_choices("/ret")] == ["/retry"]
    assert [choice.text for choice in command_choices("/regen")] == ["/retry"]
    assert [choice.text for choice in command_choices("/att")] == ["/attach "]
    assert not command_choices("/att")[0].whole
    assert command_choices("/nonsense") == []
    assert [choice.text for choice in command_choices("/comp")] == ["/compare "]
    assert command_choices("/comp", plain=True) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    for name in ("Draft.md", "data one.csv", ".hidden", "docs/inner.md"):
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "typed", "texts"),
    [
        ("mention", "d", ["docs/", '"data one.csv"', "Draft.md"]),
        ("mention", '"da', ['"data one.csv"']),
        ("mention", "docs/", ["docs/inner.md"]),
        ("attach", "da", ["data one.csv"]),
        ("attach", ".", [".hidden"]),
        ("attach", "nowhere/", []),
        ("attach", "~nobody-of-this-name/", []),
        ("attach", "", ["docs/", "data one.csv", "Draft.md"]),
    ],
)
def test_paths_folders_first_hidden_ones_only_when_asked(folder: Path, kind: str, typed: str, texts: list[str]) -> None:
    assert folder.is_dir()
    found = path_choices(Word("mention" if kind == "mention" else "attach", typed, 0))
    assert [choice.text for choice in found] == texts
    assert [choice.whole for choice in found] == [not text.endswith("/") for text in texts]
