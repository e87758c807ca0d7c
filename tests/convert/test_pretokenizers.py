"""Each known way of splitting text is proven against the tokenizers library on a tokenizer trained here."""

from __future__ import annotations

from typing import Any

import pytest

from localllm.convert.reference import Reference
from localllm.convert.verify import TokenizerProof, prove_vocabulary
from localllm.convert.vocabulary import Vocabulary, read_source, read_vocabularies
from localllm.convert.vocabulary.pretokenizers import KNOWN, LLAMA3, QWEN2, Known, fitting
from localllm.convert.vocabulary.splits import DIGIT, GPT2, splits
from localllm.errors import UnsupportedModel
from tests.convert.helpers import tokenizer_files, train_byte_level

pytestmark = pytest.mark.all_texts

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def _split(regex: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def _prove(tokenizer: dict[str, Any], *, allow_mismatch: bool = False) -> tuple[Vocabulary, TokenizerProof]:
    checkpoint, rows = tokenizer_files(tokenizer), len(tokenizer["model"]["vocab"])
    source = read_source(checkpoint, rows)
    candidates = read_vocabularies(checkpoint, source, rows)
    return prove_vocabulary(candidates, Reference(source.document), allow_mismatch=allow_mismatch)


# llama.cpp tells upper from lower case in ASCII alone in these, and so splits words of other scripts otherwise.
EXACT = [known for known in KNOWN if not known.limits]


def _cases() -> list[Any]:
    """All of them in the full suite; among the fast tests those that most models have."""
    quick = ("gpt-2", "llama-bpe", "qwen2")
    marks = {known.name: () if known.name in quick else (pytest.mark.slow,) for known in EXACT}
    return [pytest.param(known, id=known.name, marks=marks[known.name]) for known in EXACT]


@pytest.mark.slow
@pytest.mark.parametrize("known", _cases())
def test_llama_cpp_splits_like_the_expressions(known: Known) -> None:
    try:
        tokenizer = train_byte_level(known.splits, ignore_merges=known.ignores_merges)
    except Exception as error:  # the library raises nothing narrower
        pytest.skip(f"the tokenizers library does not take the expression: {error}")
    proven, proof = _prove(tokenizer)
    assert proven.fits
    assert known.name == proven.pre or known.splits == next(k for k in KNOWN if k.name == proven.pre).splits
    assert proof.mismatch is None
    assert proof.texts > 3000


@pytest.mark.slow
def test_a_pre_tokenizer_that_llama_cpp_gets_wrong_is_refused_and_explained() -> None:
    tekken = next(known for known in KNOWN if known.name == "tekken")
    tokenizer = train_byte_level(tekken.splits, ignore_merges=True)
    with pytest.raises(UnsupportedModel, match=r"reads text differently.*tekken.*only approximates"):
        _prove(tokenizer)
    _, proof = _prove(tokenizer, allow_mismatch=True)
    assert proof.different > 0
    assert proof.mismatch is not None
    assert "THE TOKENIZER IS NOT THE SAME" in proof.notes[0]


@pytest.mark.slow
def test_an_expression_that_is_not_known_is_tried_with_every_name() -> None:
    spelled_otherwise = r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    proven, proof = _prove(train_byte_level([spelled_otherwise]))
    assert not proven.fits
    assert next(known for known in KNOWN if known.name == proven.pre).splits == (GPT2,)
    assert any("found by trying" in note for note in proof.notes)


@pytest.mark.slow
def test_an_expression_that_only_resembles_a_known_one_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="reads text differently"):
        _prove(train_byte_level([LLAMA3.replace("{1,3}", "{1,4}")]))


def test_the_same_expression_has_another_name_when_whole_words_skip_the_merges() -> None:
    assert fitting([LLAMA3], ignores_merges=True)[0][0].name == "llama-bpe"
    assert fitting([LLAMA3], ignores_merges=False)[0][0].name == "smaug-bpe"


def test_structures_are_read_however_they_are_nested_and_spelled() -> None:
    assert splits({"type": "ByteLevel", "add_prefix_space": False}) == (GPT2,)
    digits = {"type": "Digits", "individual_digits": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    assert splits({"type": "Sequence", "pretokenizers": [digits, byte_level]}) == (DIGIT, GPT2)
    nested = {"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": [_split(QWEN2), BYTE_LEVEL]}]}
    assert splits(nested) == (QWEN2,)
    removed = {"type": "Sequence", "pretokenizers": [_split(QWEN2, "Removed", invert=True), BYTE_LEVEL]}
    assert splits(removed) == (QWEN2,)


def test_a_step_that_is_no_expression_stands_for_itself() -> None:
    (step,) = splits({"type": "Sequence", "pretokenizers": [_split(QWEN2, "MergedWithNext"), BYTE_LEVEL]})
    assert "MergedWithNext" in step
    assert splits({"type": "Split", "pattern": {"String": "."}, "behavior": "Isolated"}) == (r"\.",)
