"""The files that tokenizers had before tokenizer.json: what is made of them equals what tokenizer.json says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from localllm.convert import prepare
from localllm.convert.checkpoint import Checkpoint
from localllm.convert.reference import Reference
from localllm.convert.verify import prove_vocabulary
from localllm.convert.vocabulary import (
    CONTROL,
    UNUSED,
    USER_DEFINED,
    Source,
    Vocabulary,
    read_source,
    read_vocabularies,
)
from localllm.convert.vocabulary.splits import GPT2
from localllm.errors import BadCheckpoint, UnsupportedModel
from localllm.gguf_file import read_header
from tests.convert.helpers import edit_json, slow_files, tokenizer_files, train_byte_level
from tests.convert.piece_files import piece_files, piece_model

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return train_byte_level([GPT2], vocab=300)


def _files(tokenizer: dict[str, Any], **others: Any) -> Checkpoint:
    """A checkpoint with vocab.json and merges.txt instead of the tokenizer.json."""
    files = {name.replace(".", "__"): content for name, content in slow_files(tokenizer).items()}
    return tokenizer_files(None, **{**files, **others})


def _source(checkpoint: Checkpoint, rows: int = 300) -> Source:
    return read_source(checkpoint, rows)


def _vocabulary(checkpoint: Checkpoint, rows: int = 300) -> Vocabulary:
    return read_vocabularies(checkpoint, _source(checkpoint, rows), rows)[0]


def _proven(checkpoint: Checkpoint, rows: int = 300) -> tuple[Vocabulary, Sequence[str]]:
    source = _source(checkpoint, rows)
    reference = Reference(source.document, source.notes)
    vocabulary, proof = prove_vocabulary(read_vocabularies(checkpoint, source, rows), reference)
    return vocabulary, proof.notes


def _copy(source: Path, target: Path, without: Sequence[str]) -> Path:
    """The checkpoint under the same name, its weights linked, without some files."""
    folder = target / source.name
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*without, "*.safetensors"))
    for weights in source.glob("*.safetensors"):
        (folder / weights.name).symlink_to(weights)
    return folder


def _written(folder: Path) -> tuple[bytes, Mapping[str, Any], tuple[str, ...]]:
    """The header of the file that the checkpoint becomes, its metadata, and what the conversion tells."""
    with prepare(folder, "F16") as prepared, prepared.skeleton() as path:
        return prepared.header, read_header(path).metadata, prepared.preview.notes


@pytest.mark.slow
def test_a_real_vocabulary_and_its_merges_give_the_same_file(rebuilt: Callable[[str], Path], tmp_path: Path) -> None:
    original = rebuilt("bf16")
    tokenizer = json.loads((original / "tokenizer.json").read_text("utf-8"))
    older = _copy(original, tmp_path / "older", ["tokenizer.json"])
    for name, content in slow_files(tokenizer).items():
        (older / name).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    added = {str(token["id"]): token for token in tokenizer["added_tokens"]}
    edit_json(older / "tokenizer_config.json", added_tokens_decoder=added)
    # Nothing in these files says that this model takes digits one by one: their class splits as GPT-2 does.
    newer = _copy(original, tmp_path / "newer", [])
    (newer / "tokenizer.json").write_text(json.dumps({**tokenizer, "pre_tokenizer": BYTE_LEVEL}), "utf-8")
    (header, metadata, notes), (plain, _, _), (_, known, silent) = map(_written, (older, newer, original))
    assert header == plain
    assert {key for key in known if known[key] != metadata[key]} == {"tokenizer.ggml.pre"}
    assert (metadata["tokenizer.ggml.pre"], known["tokenizer.ggml.pre"]) == ("gpt-2", "smollm")
    assert any("merges.txt does not say how text is split" in note for note in notes)
    assert not any("merges.txt" in note for note in silent)


@pytest.mark.slow
def test_a_real_list_of_words_gives_the_same_file(minilm: Path, tmp_path: Path) -> None:
    newer = _copy(minilm, tmp_path / "newer", [])
    older = _copy(minilm, tmp_path / "older", ["tokenizer.json"])
    assert _written(older)[0] == _written(newer)[0]


def test_each_class_splits_text_in_its_own_way(trained: dict[str, Any]) -> None:
    for name, pre in (("GPT2Tokenizer", "gpt-2"), ("Qwen2TokenizerFast", "qwen2"), ("Qwen3_5Tokenizer", "qwen35")):
        vocabulary, notes = _proven(_files(trained, tokenizer_config__json={"tokenizer_class": name}))
        assert (vocabulary.pre, vocabulary.fits) == (pre, True)
        assert any("NFC" in note for note in notes) == (pre != "gpt-2")


def test_the_class_may_follow_from_the_type_of_the_model(trained: dict[str, Any]) -> None:
    config = {"model_type": "qwen3", "eos_token_id": 0}
    vocabulary, notes = _proven(_files(trained, config__json=config))
    assert vocabulary.pre == "qwen2"
    assert not any("merges.txt" in note for note in notes)


def test_special_tokens_go_around_a_text_as_the_class_says(trained: dict[str, Any]) -> None:
    marks = {
        "bos_token": "<|im_start|>",
        "cls_token": "<|im_start|>",
        "sep_token": "<|im_end|>",
        "eos_token": "<|im_end|>",
    }
    roberta, _ = _proven(_files(trained, tokenizer_config__json={"tokenizer_class": "RobertaTokenizer", **marks}))
    assert dict(roberta.special.adds) == {"bos": True, "eos": True, "sep": True}
    settings = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, **marks}
    plain, _ = _proven(_files(trained, tokenizer_config__json=settings))
    assert (dict(plain.special.adds), plain.special.ids["bos"]) == ({"bos": True, "sep": False}, 1)


@pytest.mark.parametrize(
    "files",
    [
        {"added_tokens__json": {"<think>": 300, "<mark>": 302}},
        {
            "tokenizer_config__json": {
                "added_tokens_decoder": {"300": {"content": "<think>"}, "302": {"content": "<mark>"}}
            }
        },
    ],
)
def test_added_tokens_are_at_their_ids(trained: dict[str, Any], files: dict[str, Any]) -> None:
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "additional_special_tokens": ["<mark>"],
        "pad_token": {"content": "<|pad|>", "lstrip": True},
        **files.pop("tokenizer_config__json", {}),
    }
    vocabulary, notes = _proven(_files(trained, tokenizer_config__json=settings, **files), rows=305)
    assert vocabulary.tokens[299:] == (vocabulary.tokens[299], "<think>", "[PAD301]", "<mark>", "<|pad|>", "[PAD304]")
    assert vocabulary.types[300:] == (USER_DEFINED, UNUSED, CONTROL, CONTROL, UNUSED)
    assert vocabulary.special.ids["pad"] == 303
    assert any("keeps the spaces around <|pad|>" in note for note in notes)


def test_an_added_token_may_rename_one_of_the_vocabulary(trained: dict[str, Any]) -> None:
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "added_tokens_decoder": {"2": {"content": "<mark>", "special": True}},
    }
    vocabulary, _ = _proven(_files(trained, tokenizer_config__json=settings))
    assert (vocabulary.tokens[2], vocabulary.types[2]) == ("<mark>", CONTROL)


def test_an_added_token_beyond_the_embedding_is_left_out_and_told(trained: dict[str, Any]) -> None:
    settings = {"tokenizer_class": "GPT2Tokenizer", "pad_token": "<|pad|>"}
    vocabulary, notes = _proven(_files(trained, tokenizer_config__json=settings))
    assert "pad" not in vocabulary.special.ids
    assert any("1 tokens behind the last of the 300 rows" in note for note in notes)


LINE_ENDS: tuple[Callable[[str], str], ...] = (
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text + "\n\n",
    lambda text: text.split("\n", 1)[1],
)


@pytest.mark.parametrize("change", LINE_ENDS)
def test_lines_of_merges_end_in_any_way(trained: dict[str, Any], change: Callable[[str], str]) -> None:
    merges = change(slow_files(trained)["merges.txt"])
    found = _source(_files(trained, merges__txt=merges, config__json={"model_type": "gpt2"})).document
    assert found["model"]["merges"] == [tuple(pair) for pair in trained["model"]["merges"]]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"merges__txt": "#version: 0.2\n\na b c\n"}, r"merges\.txt, line 3: 'a b c' is not two pieces"),
        ({"merges__txt": "Ġ  t"}, r"line 1: 'Ġ  t' is not two pieces"),
        ({"merges__txt": "Ġ \U0001f999"}, r"line 1: '🦙' is not in vocab\.json"),
        ({"vocab__json": {"a": -1}}, r"vocab\.json gives the token 'a' the id -1"),
        ({"vocab__json": {"a": "1"}}, r"the id '1', which is none"),
        ({"vocab__json": []}, r"vocab\.json does not hold a JSON object"),
        ({"added_tokens__json": ["a"]}, r"added_tokens\.json is not an object"),
        ({"added_tokens__json": {"a": 1.5}}, r"added_tokens\.json gives a token the id 1\.5"),
        ({"tokenizer_config__json": {"added_tokens_decoder": {"x": {"content": "a"}}}}, "the id 'x'"),
        (
            {"tokenizer_config__json": {"added_tokens_decoder": {"5": {}}}},
            "the token 5 of added_tokens_decoder",
        ),
    ],
)
def test_damaged_files_are_refused(trained: dict[str, Any], files: dict[str, Any], says: str) -> None:
    config = {"model_type": "gpt2", "eos_token_id": 0}
    with pytest.raises(BadCheckpoint, match=says):
        _source(_files(trained, config__json=config, **files))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, r"nothing says which tokenizer class vocab\.json with merges\.txt belongs to.*\n.*tokenizer_class"),
        (
            {"tokenizer_config__json": {"tokenizer_class": "OddTokenizer"}},
            r"class OddTokenizer, .*\n.*AutoTokenizer",
        ),
        ({"tokenizer_config__json": {"tokenizer_class": "BertTokenizer"}}, "class BertTokenizer"),
        ({"tokenizer_config__json": {"tokenizer_class": "PreTrainedTokenizerFast"}}, "class PreTrainedTokenizer,"),
    ],
)
def test_a_class_that_is_not_known_is_not_guessed(trained: dict[str, Any], files: dict[str, Any], says: str) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        _source(_files(trained, **files))


def test_tokenizer_json_goes_first(trained: dict[str, Any]) -> None:
    checkpoint = tokenizer_files(trained, vocab__json={"a": 0}, merges__txt="", vocab__txt="a", tokenizer__model="x")
    assert _source(checkpoint).document["model"] == trained["model"]


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "Cafe", "cafe", "café", "##s", "北", "京", "北京"]


def _words(lines: Sequence[str] = WORDS, **settings: Any) -> Checkpoint:
    config = {"tokenizer_class": "BertTokenizer", **settings}
    return tokenizer_files(None, vocab__txt="\n".join(lines) + "\n", tokenizer_config__json=config)


@pytest.mark.parametrize(
    ("settings", "text", "pieces"),
    [
        ({}, "The CAFÉS", ["the", "cafe", "##s"]),
        ({"strip_accents": False}, "the Cafés", ["the", "café", "##s"]),
        ({"do_lower_case": False}, "the Cafes café", ["the", "Cafe", "##s", "café"]),
        ({"do_lower_case": False, "strip_accents": True}, "Cafés", ["Cafe", "##s"]),
        ({}, "北京", ["北", "京"]),
    ],
)
def test_words_are_cleaned_as_the_settings_say(settings: dict[str, Any], text: str, pieces: list[str]) -> None:
    checkpoint = _words(**settings)
    _proven(checkpoint, rows=len(WORDS))
    ids = Reference(_source(checkpoint, len(WORDS)).document).encode([text], add_special=True)[0]
    assert [WORDS[number] for number in ids] == ["[CLS]", *pieces, "[SEP]"]


def test_chinese_words_that_llama_cpp_would_split_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="makes a word of every Chinese character"):
        _proven(_words(tokenize_chinese_chars=False), rows=len(WORDS))


def test_words_without_their_special_tokens_are_refused() -> None:
    with pytest.raises(BadCheckpoint, match=r"vocab\.txt does not hold the cls token '\[CLS\]'"):
        _source(_words(["[UNK]", "[SEP]", "a"]))


def test_of_two_equal_words_the_last_counts() -> None:
    lines = [*WORDS, "the"]
    vocabulary, _ = _proven(_words(lines), rows=len(lines))
    assert vocabulary.tokens[5] == "[PAD5]"
    assert vocabulary.tokens[-1].endswith("the")


def test_the_chat_template_arrives_from_every_kind_of_file(trained: dict[str, Any]) -> None:
    settings = {"chat_template": "T"}
    byte_level = _files(trained, tokenizer_config__json={"tokenizer_class": "GPT2Tokenizer", **settings})
    pieces = piece_files(piece_model(), **settings)
    for checkpoint, rows in ((byte_level, 300), (_words(**settings), len(WORDS)), (pieces, 300)):
        assert _vocabulary(checkpoint, rows).templates == {"default": "T"}
