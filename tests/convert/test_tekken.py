"""tekken.json: tokens by rank, special ones first, and what is wrong with it told by the rank."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from localllm.convert.reference import Reference
from localllm.convert.verify import TokenizerProof, prove_vocabulary
from localllm.convert.vocabulary import CONTROL, NORMAL, Vocabulary, read_source, read_vocabularies
from localllm.convert.vocabulary.pretokenizers import KNOWN
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.helpers import tokenizer_files

SPECIAL = ("<unk>", "<s>", "</s>", "[INST]")
BYTES = [bytes([number]) for number in range(256)]
WORDS = [b"he", b"ll", b"hell", b"lo", b"hello", b" w", b"or", b"\xc3\xa9", b" w\xc3\xa9", b"whole word"]
PATTERN = next(known.splits[0] for known in KNOWN if known.name == "tekken")


def _tekken(tokens: list[bytes] | None = None, **changes: Any) -> dict[str, Any]:
    """A file of six special tokens, four of which have names, and a vocabulary that is longer than what counts."""
    tokens = tokens or [*BYTES, *WORDS]
    vocab = [{"rank": rank, "token_bytes": base64.b64encode(token).decode()} for rank, token in enumerate(tokens)]
    config = {"pattern": PATTERN, "default_vocab_size": 6 + len(tokens), "default_num_special_tokens": 6}
    named = [{"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(SPECIAL)]
    spare = {"rank": len(tokens), "token_bytes": "c3BhcmU="}
    return {"config": config, "vocab": [*vocab, spare], "special_tokens": named} | changes


def _proven(tekken: dict[str, Any], rows: int, **others: Any) -> tuple[Vocabulary, TokenizerProof, Reference]:
    checkpoint = tokenizer_files(None, tekken__json=tekken, config__json={}, **others)
    source = read_source(checkpoint, rows)
    reference = Reference(source.document)
    return *prove_vocabulary(read_vocabularies(checkpoint, source, rows), reference), reference


@pytest.mark.slow
@pytest.mark.all_texts
def test_tokens_are_numbered_behind_the_special_ones() -> None:
    vocabulary, proof, reference = _proven(_tekken(), 272)
    assert (vocabulary.model, vocabulary.pre, proof.different) == ("gpt2", "tekken", 0)
    assert vocabulary.tokens[:6] == (*SPECIAL, "<SPECIAL_4>", "<SPECIAL_5>")
    assert vocabulary.types == (*[CONTROL] * 6, *[NORMAL] * 266)
    assert [vocabulary.tokens[6 + byte] for byte in (0x00, 0x20, 0x41, 0xA0, 0xC3)] == ["Ā", "Ġ", "A", "ł", "Ã"]
    assert dict(vocabulary.special.ids) == {"unk": 0, "bos": 1, "eos": 2}
    assert vocabulary.special.adds["bos"]
    words = {word: 262 + number for number, word in enumerate(WORDS)}
    texts = {
        "hello": [words[b"hello"]],
        "hell": [words[b"hell"]],
        "hel": [words[b"he"], 6 + ord("l")],
        "x wé": [6 + ord("x"), words[b" w\xc3\xa9"]],
    }
    assert reference.encode(list(texts), add_special=False) == list(texts.values())


def test_a_whole_word_that_no_merges_make_is_a_token() -> None:
    *_, reference = _proven(_tekken([*BYTES, b"abc", b"xy"]), 264)
    assert reference.encode(["abc", "abcd"], add_special=False) == [[262], [103, 104, 105, 106]]


def test_the_settings_of_transformers_count_beside_it() -> None:
    settings = {"chat_template": "{{ messages }}", "add_bos_token": False, "eos_token": "[INST]"}
    vocabulary, *_ = _proven(_tekken(), 272, tokenizer_config__json=settings)
    assert vocabulary.templates == {"default": "{{ messages }}"}
    assert (vocabulary.special.ids["eos"], vocabulary.special.adds.get("bos")) == (3, False)


def test_older_files_do_not_tell_their_special_tokens() -> None:
    with pytest.raises(UnsupportedModel, match=r"does not tell its special tokens.*\n.*AutoTokenizer"):
        _proven(_tekken(special_tokens=None), 272)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config": None}, "does not say how text is split"),
        ({"config": {"pattern": 3}}, "does not say how text is split"),
        ({"vocab": {}}, "holds no vocabulary"),
        ({"vocab": [{"token_bytes": "?"}]}, "the token of rank 0 has no bytes in base64"),
        ({"vocab": [{"token_bytes": "QQ=="}] * 300}, "the token of rank 1 is empty, or the same as another"),
        ({"special_tokens": [{"rank": 0}]}, "a special token has no rank or no text"),
        ({"special_tokens": [{"rank": 1, "token_str": "<s>"}]}, "the 1 special tokens are not numbered from 0"),
        (
            {"config": {"pattern": "x", "default_num_special_tokens": 1 << 60}},
            "special tokens, but the embedding has 272",
        ),
        ({"special_tokens": 5}, "a special token has no rank or no text"),
        ({"vocab": _tekken()["vocab"][:-2]}, "holds 265 tokens beside 6 special ones, not 272 together"),
        ({"config": {"pattern": "x"}, "vocab": _tekken()["vocab"][1:]}, "there is no token for the byte 0"),
    ],
)
def test_damaged_files_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadCheckpoint, match=rf"tekken\.json.*{says}"):
        _proven(_tekken(**changes), 272)
