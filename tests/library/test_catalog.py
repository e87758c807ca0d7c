"""The catalogue: the shipped file is right, and a mistake is named by line, model and field."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from localllm.errors import LocalLLMError
from localllm.library import DEFAULT, load_catalog

GOOD = """\
[[model]]
name = "tiny:1m"
repo = "someone/Tiny-GGUF"
licence = "mit"
parameters = 1_000_000
context = 512
about = "made for this test"
architecture = "LlamaForCausalLM"

[model.config]
hidden_size = 64

[[model.file]]
quantization = "Q8_0"
file = "tiny.Q8_0.gguf"
weights = 1_000
memory = 2_000

[[model.file]]
quantization = "F16"
file = "parts/tiny.F16-00001-of-00002.gguf"
weights = 1_900
memory = 2_900
"""


def load(tmp_path: Path, text: str) -> str:
    """The message of the mistake in `text`."""
    file = tmp_path / "catalog.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(LocalLLMError) as caught:
        load_catalog(file)
    return caught.value.message


def test_shipped_catalogue_has_thirty_models_and_the_default_first(smollm2: Path) -> None:
    entries = load_catalog()
    assert len(entries) == 30
    assert entries[0].name == DEFAULT
    assert entries[0].file == smollm2.name
    assert entries[0].size == smollm2.stat().st_size
    assert entries[0].files[0].sha256 == hashlib.sha256(smollm2.read_bytes()).hexdigest()
    assert entries[0].parameters == 135_000_000
    assert entries[-1].parameters > 70_000_000_000


def test_a_good_file(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(GOOD, encoding="utf-8")
    (entry,) = load_catalog(file)
    assert (entry.name, entry.parameters, entry.size, entry.package) == ("tiny:1m", 1_000_000, 0, "")
    assert entry.config == {"hidden_size": 64}
    assert entry.file == "tiny.Q8_0.gguf"
    assert entry.quantized("f16") is entry.files[1]
    assert entry.quantized("Q4_K_M") is None


def test_a_model_in_several_files_knows_them_all(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(GOOD, encoding="utf-8")
    whole, split = load_catalog(file)[0].files
    assert whole.parts == ("tiny.Q8_0.gguf",)
    assert split.parts == ("parts/tiny.F16-00001-of-00002.gguf", "parts/tiny.F16-00002-of-00002.gguf")
    assert split.about_bytes == 1_900


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "words"),
    [
        ('licence = "mit"\n', "", 1, "licence", "is missing"),
        ("context = 512", "context = -1", 6, "context", "whole number"),
        ("context = 512", "context = true", 6, "context", "whole number"),
        ("context = 512", 'contxt = "512"', 6, "contxt", "did you mean `context`?"),
        ('"tiny:1m"', '"Tiny"', 2, "name", "family:size"),
        ('"someone/Tiny-GGUF"', '"Tiny-GGUF"', 3, "repo", "owner/name"),
        ('about = "made for this test"', 'about = ""', 7, "about", "must be text"),
        ('"LlamaForCausalLM"', '"llama"', 8, "architecture", "`architectures`"),
        ("[model.config]\nhidden_size = 64\n", "", 1, "config", "is missing"),
        ("[model.config]", "[model.sampling]\nheat = 1\n[model.config]", 1, "sampling", "some of min_p, repeat"),
        ("[model.config]", "[model.sampling]\ntop_p = 7\n[model.config]", 1, "sampling", "not between 0 and 1"),
        ('"tiny.Q8_0.gguf"', '"../tiny.gguf"', 15, "file", "inside the repo"),
        ('"tiny.Q8_0.gguf"', '"tiny.bin"', 15, "file", ".gguf"),
        ('"tiny.Q8_0.gguf"', '"tiny-00002-of-00003.gguf"', 15, "file", "the first of several"),
        ("weights = 1_000\n", "", 13, "weights", "is missing"),
        ("weights = 1_900", "weights = 1.9", 22, "weights", "whole number"),
        ("memory = 2_900", 'sha256 = "00"\nmemory = 2_900', 23, "sha256", "64 hexadecimal digits"),
        ("memory = 2_900", f'memory = 2_900\nsha256 = "{64 * "0"}"', 24, "sha256", "in several"),
        ('"F16"', '"Q8_0"', 20, "quantization", "is there twice"),
        ('"F16"', '"f16"', 20, "quantization", "in capitals"),
    ],
)
def test_a_mistake_names_line_model_and_field(
    tmp_path: Path, old: str, new: str, line: int, field: str, words: str
) -> None:
    # A good entry in front, so that the line is found in the second table and not in the first.
    first = GOOD.replace("tiny:1m", "first:1m")
    lines_before = len(first.splitlines())
    assert old in GOOD
    message = load(tmp_path, first + GOOD.replace(old, new))
    assert f"line {lines_before + line}:" in message
    assert f"`{field}`" in message
    assert words in message


def test_a_name_used_twice(tmp_path: Path) -> None:
    assert f"line {len(GOOD.splitlines()) + 2}: model tiny:1m, field `name`: is used twice" in load(
        tmp_path, GOOD + GOOD
    )


def test_not_toml(tmp_path: Path) -> None:
    assert "not valid TOML" in load(tmp_path, GOOD + "name =\n")


def test_no_models(tmp_path: Path) -> None:
    assert "[[model]]" in load(tmp_path, 'title = "mine"\n')


def test_no_files(tmp_path: Path) -> None:
    message = load(tmp_path, GOOD[: GOOD.index("[[model.file]]")])
    assert "line 1: model tiny:1m, field `file`: there must be a [[model.file]] table" in message
