"""Each known way of splitting text is proven against the tokenizers library on a tokenizer trained here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localllm.convert.pretokenizers import DIGIT, GPT2, KNOWN, LLAMA3, QWEN2, Known, candidates, splits
from localllm.convert.verify import Reference, prove_vocabulary
from localllm.convert.vocabulary import read_vocabulary
from localllm.errors import UnsupportedModel
from tests.convert.helpers import tokenizer_files, train_byte_level

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _split(regex: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


# llama.cpp leaves combining marks outside of words in these two, so that words of some scripts come out different.
EXACT = [known for known in KNOWN if known.name not in ("tekken", "gpt-4o")]


@pytest.mark.parametrize("known", EXACT, ids=lambda known: known.name)
def test_llama_cpp_splits_like_the_expressions(known: Known) -> None:
    tokenizer = train_byte_level(known.splits, ignore_merges=known.ignores_merges)
    vocabulary = read_vocabulary(tokenizer_files(tokenizer), len(tokenizer["model"]["vocab"]))
    assert vocabulary.pre == known.name or known.name == "granite-embed-multi-97m"
    proven, proof = prove_vocabulary(vocabulary, Reference(json.dumps(tokenizer)))
    assert proven.pre == known.name
    assert proof.texts > 700


def test_a_pre_tokenizer_that_llama_cpp_gets_wrong_is_refused() -> None:
    tekken = next(known for known in KNOWN if known.name == "tekken")
    tokenizer = train_byte_level(tekken.splits, ignore_merges=True)
    vocabulary = read_vocabulary(tokenizer_files(tokenizer), len(tokenizer["model"]["vocab"]))
    with pytest.raises(UnsupportedModel, match=r"reads text differently.*tekken"):
        prove_vocabulary(vocabulary, Reference(json.dumps(tokenizer)))


def test_where_one_name_is_wrong_the_next_with_the_same_structure_is_tried() -> None:
    cased = next(known for known in KNOWN if known.name == "gpt-4o")
    tokenizer = train_byte_level(cased.splits)
    vocabulary = read_vocabulary(tokenizer_files(tokenizer), len(tokenizer["model"]["vocab"]))
    assert vocabulary.candidates == ("gpt-4o", "granite-embed-multi-97m")
    assert prove_vocabulary(vocabulary, Reference(json.dumps(tokenizer)))[0].pre == "granite-embed-multi-97m"


def test_the_same_expression_has_another_name_when_whole_words_skip_the_merges() -> None:
    assert candidates([LLAMA3], ignores_merges=True)[0] == "llama-bpe"
    assert candidates([LLAMA3], ignores_merges=False)[0] == "smaug-bpe"


def test_structures_are_read_however_they_are_nested_and_spelled() -> None:
    assert splits({"type": "ByteLevel", "add_prefix_space": False}) == (GPT2,)
    digits = {"type": "Digits", "individual_digits": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    assert splits({"type": "Sequence", "pretokenizers": [digits, byte_level]}) == (DIGIT, GPT2)
    nested = {"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": [_split(QWEN2), BYTE_LEVEL]}]}
    assert splits(nested) == (QWEN2,)
    removed = {"type": "Sequence", "pretokenizers": [_split(QWEN2, "Removed", invert=True), BYTE_LEVEL]}
    assert splits(removed) == (QWEN2,)


@pytest.mark.parametrize(
    ("pre_tokenizer", "says"),
    [
        (None, "does not work on bytes"),
        ({"type": "Whitespace"}, "Whitespace"),
        ({"type": "ByteLevel", "add_prefix_space": True}, "adds a space"),
        ({"type": "Sequence", "pretokenizers": [_split(QWEN2)]}, "does not work on bytes"),
        ({"type": "Sequence", "pretokenizers": [_split(QWEN2, "MergedWithNext"), BYTE_LEVEL]}, "MergedWithNext"),
        ({"type": "Sequence", "pretokenizers": [{**_split(""), "pattern": {"String": " "}}, BYTE_LEVEL]}, "String"),
    ],
)
def test_a_step_that_is_not_known_is_refused(pre_tokenizer: dict[str, Any] | None, says: str) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        splits(pre_tokenizer)


def test_an_expression_that_only_resembles_a_known_one_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="nothing is guessed"):
        candidates([LLAMA3.replace("{1,3}", "{1,4}")], ignores_merges=True)
