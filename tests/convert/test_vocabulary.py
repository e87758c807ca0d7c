"""Tokenizer files become keys: tokens and types, special ids, stop ids, templates, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localllm.convert.header import KeyValue
from localllm.convert.reference import Reference, as_text
from localllm.convert.verify import TokenizerProof, prove_vocabulary
from localllm.convert.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    read_source,
    read_vocabularies,
)
from localllm.convert.vocabulary.splits import GPT2
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.helpers import (
    SPACE_MARK,
    template_processor,
    tokenizer_files,
    train_byte_level,
    train_sentencepiece,
)

pytestmark = pytest.mark.all_texts


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    return train_byte_level([GPT2], vocab=300)


@pytest.fixture
def tokenizer(trained: dict[str, Any]) -> dict[str, Any]:
    """A byte-level tokenizer.json with 300 tokens that a test may change."""
    copy: dict[str, Any] = json.loads(json.dumps(trained))
    return copy


def _read(tokenizer: dict[str, Any], rows: int = 300, **files: Any) -> Vocabulary:
    """The likeliest way to write the tokenizer."""
    checkpoint = tokenizer_files(tokenizer, **files)
    return read_vocabularies(checkpoint, read_source(checkpoint, rows), rows)[0]


def _prove(vocabulary: Vocabulary, tokenizer: dict[str, Any]) -> tuple[Vocabulary, TokenizerProof]:
    return prove_vocabulary([vocabulary], Reference(tokenizer))


def _value(vocabulary: Vocabulary, key: str) -> Any:
    found = vocabulary.keys().get(f"tokenizer.ggml.{key}")
    return found.value if isinstance(found, KeyValue) else None


def _add(tokenizer: dict[str, Any], number: int, content: str, *, special: bool = False, **flags: bool) -> None:
    tokenizer["added_tokens"].append({"id": number, "content": content, "special": special, **flags})


def test_added_tokens_are_control_or_user_defined_and_missing_rows_are_padded(tokenizer: dict[str, Any]) -> None:
    _add(tokenizer, 300, "<mark>", special=True)
    _add(tokenizer, 301, "<think>")
    _add(tokenizer, 303, "<|tool|>")
    vocabulary = _read(tokenizer, rows=310)
    assert vocabulary.tokens[300:305] == ("<mark>", "<think>", "[PAD302]", "<|tool|>", "[PAD304]")
    assert vocabulary.types[300:305] == (CONTROL, USER_DEFINED, UNUSED, CONTROL, UNUSED)
    assert vocabulary.types[:4] == (CONTROL, CONTROL, CONTROL, NORMAL)
    assert len(vocabulary.tokens) == len(vocabulary.types) == 310


def test_marks_that_a_reader_of_the_answer_needs_are_printed(tokenizer: dict[str, Any]) -> None:
    for number, mark in enumerate(("<|channel>", "<channel|>", '<|"|>', "<|turn>"), 300):
        _add(tokenizer, number, mark, special=True)
    assert _read(tokenizer, rows=304).types[300:] == (USER_DEFINED, USER_DEFINED, USER_DEFINED, CONTROL)


def test_an_added_token_beyond_the_embedding_is_left_out_and_told(tokenizer: dict[str, Any]) -> None:
    _add(tokenizer, 300, "<new>")
    source = read_source(tokenizer_files(tokenizer), 300)
    assert source.notes == ("1 tokens behind the last of the 300 rows of the embedding are left out: <new>",)
    assert "<new>" not in _read(tokenizer).tokens


def test_another_token_beyond_the_embedding_is_refused(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"]["new"] = 300
    with pytest.raises(BadCheckpoint, match=r"token id 300, but the embedding has 300 rows"):
        _read(tokenizer)


def test_two_tokens_with_one_text_are_refused(tokenizer: dict[str, Any]) -> None:
    _add(tokenizer, 300, "a")
    with pytest.raises(UnsupportedModel, match="are both 'a'"):
        _read(tokenizer, rows=301)


def test_a_text_with_a_nul_is_refused(tokenizer: dict[str, Any]) -> None:
    _add(tokenizer, 300, "a\0b")
    with pytest.raises(UnsupportedModel, match="holds a NUL"):
        _read(tokenizer, rows=301)


def test_one_id_for_two_tokens_is_refused(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["vocab"]["twice"] = 5
    with pytest.raises(BadCheckpoint, match="the id 5"):
        _read(tokenizer)


def test_merges_in_both_spellings(tokenizer: dict[str, Any]) -> None:
    as_pairs = _read(tokenizer).merges
    tokenizer["model"]["merges"] = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    assert _read(tokenizer).merges == as_pairs
    assert as_pairs


def test_special_ids_come_from_their_names_first(tokenizer: dict[str, Any]) -> None:
    settings = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|endoftext|>", "pad_token": "<|im_end|>"}
    vocabulary = _read(tokenizer, tokenizer_config__json=settings)
    assert dict(vocabulary.special.ids) == {"bos": 1, "eos": 0, "pad": 2}
    assert vocabulary.special.stops == (0, 2)
    assert (_value(vocabulary, "bos_token_id"), _value(vocabulary, "padding_token_id")) == (1, 2)


def test_stop_ids_are_gathered_from_all_files(tokenizer: dict[str, Any]) -> None:
    files: dict[str, Any] = {
        "config__json": {"eos_token_id": [2, 5]},
        "generation_config__json": {"eos_token_id": [2, 7]},
    }
    vocabulary = _read(tokenizer, **files)
    assert (vocabulary.special.ids["eos"], vocabulary.special.stops) == (2, (2, 5, 7))


@pytest.mark.slow
def test_stop_ids_that_llama_cpp_does_not_know_get_keys(tokenizer: dict[str, Any]) -> None:
    files: dict[str, Any] = {"config__json": {"eos_token_id": [2, 5]}, "generation_config__json": {"eos_token_id": 7}}
    vocabulary, proof = _prove(_read(tokenizer, **files), tokenizer)
    assert (_value(vocabulary, "eot_token_id"), _value(vocabulary, "eom_token_id")) == (5, 7)
    assert proof.notes == ()


def test_more_stop_ids_than_keys_are_told(tokenizer: dict[str, Any]) -> None:
    vocabulary = _read(tokenizer, config__json={"eos_token_id": [2, 5, 7, 9]})
    _, proof = _prove(vocabulary, tokenizer)
    assert proof.notes == ("generation does not stop at the ids [9]: GGUF has no key left for them",)


def test_a_checkpoint_that_never_stops_is_refused(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(BadCheckpoint, match="which token ends generation"):
        _read(tokenizer, config__json={})


def test_a_stop_id_beyond_the_vocabulary_is_refused(tokenizer: dict[str, Any]) -> None:
    with pytest.raises(BadCheckpoint, match="the eos token has the id 300 of 300"):
        _read(tokenizer, config__json={"eos_token_id": 300})


@pytest.mark.parametrize(
    ("processor", "settings", "adds"),
    [
        (None, {}, (False, None)),
        (None, {"add_bos_token": True, "bos_token": "<|im_start|>"}, (True, None)),
        ({"type": "ByteLevel"}, {"add_bos_token": True, "bos_token": "<|im_start|>"}, (False, False)),
        (template_processor("<|im_start|>", 1), {"bos_token": "<|im_start|>"}, (True, None)),
        (
            {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template_processor("<|im_start|>", 1)]},
            {"bos_token": "<|im_start|>"},
            (True, False),
        ),
    ],
)
def test_which_special_tokens_go_around_a_text(
    tokenizer: dict[str, Any],
    processor: dict[str, Any] | None,
    settings: dict[str, Any],
    adds: tuple[bool | None, bool | None],
) -> None:
    tokenizer["post_processor"] = processor
    vocabulary = _read(tokenizer, tokenizer_config__json=settings)
    assert (_value(vocabulary, "add_bos_token"), _value(vocabulary, "add_eos_token")) == adds


@pytest.mark.slow
def test_a_template_that_adds_tokens_is_proven(tokenizer: dict[str, Any]) -> None:
    tokenizer["post_processor"] = template_processor("<|im_start|>", 1)
    vocabulary = _read(tokenizer, tokenizer_config__json={"bos_token": "<|im_start|>"})
    assert vocabulary.special.stated
    _prove(vocabulary, tokenizer)
    tokenizer["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}})
    with pytest.raises(UnsupportedModel, match="reads text differently"):
        _prove(vocabulary, tokenizer)


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config__json": {"chat_template": "T"}},
        {"chat_template__jinja": "T", "tokenizer_config__json": {"chat_template": "older"}},
        {"chat_template__json": {"chat_template": "T"}},
        {"tokenizer_config__json": {"chat_template": [{"name": "default", "template": "T"}]}},
    ],
)
def test_the_chat_template_is_found_wherever_it_is(tokenizer: dict[str, Any], files: dict[str, Any]) -> None:
    assert _read(tokenizer, **files).keys()["tokenizer.chat_template"].value == "T"


def test_named_templates_are_all_kept(tokenizer: dict[str, Any]) -> None:
    named = [{"name": "default", "template": "T"}, {"name": "tool use", "template": "U"}]
    keys = _read(tokenizer, tokenizer_config__json={"chat_template": named}).keys()
    assert keys["tokenizer.chat_template"].value == "T"
    assert keys["tokenizer.chat_template.tool_use"].value == "U"
    assert keys["tokenizer.chat_templates"].value == ["tool_use"]


def test_without_a_chat_template_there_is_no_key(tokenizer: dict[str, Any]) -> None:
    assert "tokenizer.chat_template" not in _read(tokenizer).keys()  # noqa: SIM118 - a method, not a dict


def test_a_composing_normalizer_is_told(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = {"type": "NFC"}
    _, proof = _prove(_read(tokenizer), tokenizer)
    assert any("NFC" in note for note in proof.notes)


def test_another_normalizer_is_refused(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = {"type": "Lowercase"}
    with pytest.raises(UnsupportedModel, match="does not change to lower case"):
        _prove(_read(tokenizer), tokenizer)


@pytest.mark.slow
def test_tokens_that_swallow_spaces_are_told_and_the_rest_is_proven(tokenizer: dict[str, Any]) -> None:
    _add(tokenizer, 300, "<mark>", special=True, lstrip=True, rstrip=True, normalized=False, single_word=False)
    _, proof = _prove(_read(tokenizer, rows=301), tokenizer)
    assert any("keeps the spaces around <mark>" in note for note in proof.notes)
    assert proof.different > 0


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "WordLevel"])
def test_another_kind_of_tokenizer_is_refused(tokenizer: dict[str, Any], kind: str) -> None:
    tokenizer["model"]["type"] = kind
    with pytest.raises(UnsupportedModel, match=kind):
        _read(tokenizer)


def test_pieces_that_are_marked_inside_of_words_are_refused(tokenizer: dict[str, Any]) -> None:
    tokenizer["model"]["continuing_subword_prefix"] = "x"
    with pytest.raises(UnsupportedModel, match="no BPE whose pieces begin with 'x'"):
        Reference(tokenizer)


def test_a_missing_tokenizer_says_where_to_get_it() -> None:
    with pytest.raises(BadCheckpoint, match=r"(?s)no tokenizer: neither tokenizer\.json nor.*Copy tokenizer\.json"):
        read_source(tokenizer_files(None), 300)


@pytest.mark.parametrize("content", ["{}", '{"model": {"type": "BPE"}}', '{"added_tokens": [{}]}'])
def test_a_tokenizer_that_the_library_does_not_read_is_refused(content: str) -> None:
    with pytest.raises(BadCheckpoint, match="not one that the tokenizers library reads"):
        Reference(json.loads(content))


def test_a_tokenizer_over_which_the_library_panics_is_refused(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": 1e20}
    with pytest.raises(BadCheckpoint, match="not one that the tokenizers library reads"):
        Reference(tokenizer)


@pytest.mark.parametrize("added", [{}, 5, [5], [{}], [{"id": "1", "content": "a"}], [{"id": 1, "content": None}]])
def test_added_tokens_without_id_or_text_are_refused(tokenizer: dict[str, Any], added: Any) -> None:
    tokenizer["added_tokens"] = added
    with pytest.raises(
        BadCheckpoint, match=r"tokenizer\.json: (an added token has no id or no text|the added tokens are)"
    ):
        _read(tokenizer)


@pytest.mark.parametrize("part", [["<s>"], {"type": 5}, {"type": "Sequence", "normalizers": [[]]}])
def test_a_step_that_does_not_say_what_it_is_is_refused(tokenizer: dict[str, Any], part: Any) -> None:
    tokenizer["normalizer"] = part
    with pytest.raises(BadCheckpoint, match="normalizers does not say what it is"):
        _read(tokenizer)


def test_a_padding_token_that_is_not_there_is_left_out(tokenizer: dict[str, Any]) -> None:
    vocabulary = _read(tokenizer, config__json={"eos_token_id": 2, "pad_token_id": -1, "bos_token_id": 300})
    assert dict(vocabulary.special.ids) == {"eos": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style", "adds_space", "deviates"),
    [
        ("legacy", True, False),
        ("bare", False, False),
        ("never", False, False),
        ("always", True, True),
        ("first", True, True),
    ],
)
def test_sentencepiece_styles_are_proven(style: str, adds_space: bool, deviates: bool) -> None:
    tokenizer = train_sentencepiece(style)
    vocabulary = _read(tokenizer, rows=len(tokenizer["model"]["vocab"]) + 2)
    assert (vocabulary.model, _value(vocabulary, "add_space_prefix")) == ("llama", adds_space)
    assert vocabulary.types[3:259] == (BYTE,) * 256
    assert len(vocabulary.scores) == len(vocabulary.tokens)
    _, proof = _prove(vocabulary, tokenizer)
    assert any("puts a space before every text" in note for note in proof.notes) == deviates


@pytest.mark.slow
def test_without_scores_a_sentencepiece_vocabulary_would_be_wrong() -> None:
    tokenizer = train_sentencepiece("legacy")
    vocabulary = _read(tokenizer, rows=len(tokenizer["model"]["vocab"]))
    flat = vocabulary.__class__(**{**vars(vocabulary), "scores": (-1000.0,) * len(vocabulary.tokens)})
    with pytest.raises(UnsupportedModel, match="reads text differently"):
        _prove(flat, tokenizer)


def _gemma(**changes: Any) -> dict[str, Any]:
    """A tokenizer as Gemma's is written, with tokens for runs of spaces and of newlines."""
    tokenizer = train_sentencepiece("bare")
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    tokenizer["pre_tokenizer"] = split
    tokenizer["model"] |= changes
    for run in ("\n", "\n\n", "\n\n\n", "\t\t", SPACE_MARK * 2, SPACE_MARK * 3):
        number = len(tokenizer["model"]["vocab"])
        tokenizer["model"]["vocab"][run] = number
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": SPACE_MARK in run}
        _add(tokenizer, number, run, **flags)
    return tokenizer


def test_runs_of_spaces_and_newlines_are_tokens_of_their_own_as_in_gemma() -> None:
    tokenizer = _gemma()
    rows = len(tokenizer["model"]["vocab"])
    vocabulary = _read(tokenizer, rows=rows)
    assert (vocabulary.model, _value(vocabulary, "add_space_prefix")) == ("llama", False)
    assert vocabulary.tokens[-3:] == ("\t\t", "  ", "   ")
    assert vocabulary.types[-6:] == (USER_DEFINED,) * 6
    _prove(vocabulary, tokenizer)


@pytest.mark.slow
def test_merges_that_no_scores_can_say_are_written_as_merges_as_in_gemma_4() -> None:
    merges = train_sentencepiece("bare")["model"]["merges"]
    inner = {piece for merge in merges for piece in merge}
    # Tokens that no merge makes any more: llama.cpp's `llama` makes whatever is a token.
    tokenizer = _gemma(merges=[merge for merge in merges if "".join(merge) in inner or len("".join(merge)) < 5])
    assert 0 < len(tokenizer["model"]["merges"]) < len(merges)
    rows = len(tokenizer["model"]["vocab"])
    checkpoint = tokenizer_files(tokenizer)
    candidates = read_vocabularies(checkpoint, read_source(checkpoint, rows), rows)
    with pytest.raises(UnsupportedModel, match="reads text differently"):
        _prove(candidates[0], tokenizer)
    vocabulary, proof = prove_vocabulary(candidates, Reference(tokenizer))
    assert (vocabulary.model, vocabulary.pre, proof.different) == ("gemma4", "gemma4", 0)
    assert not vocabulary.scores


def test_a_sentencepiece_vocabulary_without_all_bytes_is_refused() -> None:
    tokenizer = train_sentencepiece("legacy")
    number = tokenizer["model"]["vocab"].pop("<0x41>")
    tokenizer["model"]["vocab"]["spare"] = number
    with pytest.raises(UnsupportedModel, match=r"1 of the 256 byte tokens are missing .<0x41>"):
        _read(tokenizer, rows=len(tokenizer["model"]["vocab"]))


def test_spaces_treated_in_another_way_are_refused() -> None:
    tokenizer = train_sentencepiece("legacy")
    tokenizer["normalizer"]["normalizers"].append({"type": "NFKC"})
    with pytest.raises(UnsupportedModel, match="NFKC"):
        _prove(_read(tokenizer, rows=len(tokenizer["model"]["vocab"])), tokenizer)


def test_merges_become_texts_only_where_that_says_the_same(tokenizer: dict[str, Any]) -> None:
    merges = [list(merge.split(" ")) if isinstance(merge, str) else merge for merge in tokenizer["model"]["merges"]]
    tokenizer["model"]["merges"] = merges
    text = as_text(tokenizer)
    assert json.loads(text.json)["model"]["merges"] == [" ".join(merge) for merge in merges]
    assert Reference(text).encode(["one two\n three"], add_special=False) == Reference(tokenizer).encode(
        ["one two\n three"], add_special=False
    )
    assert "model" not in text.around
    for other in (["a b", "c"], ["#version:", "c"], ["a", 5], "ab", ["a", "b", "c"]):
        tokenizer["model"]["merges"] = [*merges, other]
        assert json.loads(as_text(tokenizer).json)["model"]["merges"] == [*merges, other]
