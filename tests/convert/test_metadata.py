"""Keys that a person sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.cli.main import main
from localllm.convert import Settings, convert, preview
from localllm.convert.header import f32, flag, i32s, text, u32
from localllm.convert.metadata import with_metadata
from localllm.errors import UnsupportedModel
from localllm.gguf_file import read_header
from tests.convert.helpers import MakeTiny

KEYS = {
    "general.name": text("old"),
    "llama.context_length": u32(512),
    "general.sampling.temp": f32(0.5),
    "tokenizer.ggml.add_bos_token": flag(True),
    "llama.sections": i32s([1, 2]),
}


def test_a_key_that_is_there_keeps_its_type_and_goes_last() -> None:
    found = with_metadata(KEYS, [("llama.context_length", "1024"), ("general.name", "a=b: c")])
    assert list(found)[-2:] == ["llama.context_length", "general.name"]
    assert found["llama.context_length"] == u32(1024)
    assert found["general.name"] == text("a=b: c")
    assert with_metadata(KEYS, [("general.sampling.temp", "1")])["general.sampling.temp"] == f32(1.0)
    assert with_metadata(KEYS, [("llama.context_length", "int:7")])["llama.context_length"] == u32(7)


def test_a_new_key_is_a_text_unless_it_says_otherwise() -> None:
    changes = [("my.text", "12"), ("my.count", "int:12"), ("my.share", "float:0.25"), ("my.flag", "bool:true")]
    found = with_metadata({}, [*changes, ("my.url", "https://example.org"), ("my.str", "str:int:3")])
    assert found["my.text"] == text("12")
    assert (found["my.count"], found["my.share"], found["my.flag"]) == (u32(12), f32(0.25), flag(True))
    assert (found["my.url"], found["my.str"]) == (text("https://example.org"), text("int:3"))


@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "general.file_type",
        "general.alignment",
        "split.count",
        "llama.block_count",
        "llama.sections",
        "tokenizer.ggml.pre",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.bos_token_id",
    ],
)
def test_keys_that_describe_the_bytes_or_what_was_proven_stay(key: str) -> None:
    with pytest.raises(UnsupportedModel, match=f"The key {key} cannot be set"):
        with_metadata(KEYS, [(key, "1")])


@pytest.mark.parametrize(
    ("key", "value"),
    [("llama.context_length", "many"), ("llama.context_length", "-1"), ("new.flag", "bool:yes"), ("new.n", "int:9e9")],
)
def test_a_value_of_another_type_is_refused(key: str, value: str) -> None:
    with pytest.raises(UnsupportedModel, match="not of the key's type"):
        with_metadata(KEYS, [(key, value)])


@pytest.mark.slow
def test_the_flag(tiny: MakeTiny, tmp_path: Path) -> None:
    out = str(tmp_path / "x.gguf")
    flags = ["--metadata", "general.description=made = here", "--metadata", "llama.context_length=4096"]
    flags += ["--metadata", "tokenizer.chat_template={{ messages }}"]
    assert main(["convert", str(tiny()), "--outfile", out, *flags]) == 0
    keys = read_header(Path(out)).metadata
    assert keys["general.description"] == "made = here"
    assert keys["llama.context_length"] == 4096
    assert keys["tokenizer.chat_template"] == "{{ messages }}"


def test_the_header_is_checked_before_anything_is_written(tiny: MakeTiny, tmp_path: Path) -> None:
    source = tiny()
    with pytest.raises(UnsupportedModel):
        convert(source, tmp_path / "x.gguf", settings=Settings(metadata=(("llama.block_count", "1"),)))
    assert not (tmp_path / "x.gguf").exists()
    assert preview(source).bytes
