"""The catalogue: the shipped file is right, and a mistake is named by line, model and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.errors import LocalLLMError
from localllm.library import DEFAULT, load_catalog

GOOD = """\
[[model]]
name = "tiny:1m"
repo = "someone/Tiny-GGUF"
file = "tiny.Q8_0.gguf"
licence = "mit"
parameters = 1_000_000
context = 512
about = "made for this test"
"""


def load(tmp_path: Path, text: str) -> str:
    """The message of the mistake in `text`."""
    file = tmp_path / "catalog.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LocalLLMError) as caught:
        load_catalog(file)
    return caught.value.message


def test_shipped_catalogue_has_the_default_and_a_dozen_more(smollm2: Path) -> None:
    entries = {entry.name: entry for entry in load_catalog()}
    assert len(entries) > 12
    default = entries[DEFAULT]
    assert default.file == smollm2.name
    assert default.size == smollm2.stat().st_size


def test_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(GOOD, encoding="utf-8")
    (entry,) = load_catalog(file)
    assert (entry.name, entry.parameters, entry.size, entry.package) == ("tiny:1m", 1_000_000, 0, "")


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ('licence = "mit"\n', "", 1, "licence", "is missing"),
        ("context = 512", "context = -1", 7, "context", "whole number"),
        ("context = 512", "context = true", 7, "context", "whole number"),
        ("context = 512", 'contxt = "512"', 7, "contxt", "did you mean `context`?"),
        ('"tiny:1m"', '"Tiny"', 2, "name", "family:size"),
        ('"someone/Tiny-GGUF"', '"Tiny-GGUF"', 3, "repo", "owner/name"),
        ('"tiny.Q8_0.gguf"', '"../tiny.gguf"', 4, "file", "inside the repo"),
        ('"tiny.Q8_0.gguf"', '"tiny.bin"', 4, "file", ".gguf"),
        ('about = "made for this test"', 'about = ""', 8, "about", "must be text"),
    ],
)
def test_a_mistake_names_line_model_and_field(
    tmp_path: Path, old: str, new: str, line: int, field: str, words: str
) -> None:
    # A good entry in front, so that the line is found in the second table and not in the first.
    first = GOOD.replace("tiny:1m", "first:1m")
    lines_before = len(first.splitlines())
    message = load(tmp_path, first + GOOD.replace(old, new))
    assert f"line {lines_before + line}:" in message
    assert f"`{field}`" in message
    assert words in message


def test_a_name_used_twice(tmp_path: Path) -> None:
    assert "line 10: model tiny:1m, field `name`: is used twice" in load(tmp_path, GOOD + GOOD)


def test_not_toml(tmp_path: Path) -> None:
    assert "not valid TOML" in load(tmp_path, GOOD + "name =\n")


def test_no_models(tmp_path: Path) -> None:
    assert "[[model]]" in load(tmp_path, 'title = "mine"\n')
