"""SentencePiece models: their own ids, their own scores, and damaged files told by the byte."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from localllm.convert import convert
from localllm.convert.checkpoint import Checkpoint
from localllm.convert.header import text
from localllm.convert.reference import Reference
from localllm.convert.verify import TokenizerProof, opened, prove_vocabulary
from localllm.convert.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
    read_source,
    read_vocabularies,
)
from localllm.convert.vocabulary.slow.model_file import PieceModel, parse_model
from localllm.errors import BadCheckpoint, UnsupportedModel
from localllm.gguf_file import read_header
from localllm.native.vocab import open_vocab
from tests.convert import piece_files as made
from tests.convert.piece_files import (
    BASE,
    BYTES,
    TEXTS,
    WORDS,
    field,
    older_checkpoint,
    own_ids,
    piece_files,
    piece_model,
    trained,
)

pytestmark = pytest.mark.all_texts

MODEL = {"general.architecture": text("llama")}
ROWS = len(BASE) + len(BYTES) + len(WORDS)


def _read(checkpoint: Checkpoint, rows: int = ROWS) -> list[Vocabulary]:
    return read_vocabularies(checkpoint, read_source(checkpoint, rows), rows)


def _proven(checkpoint: Checkpoint, rows: int = ROWS) -> tuple[Vocabulary, TokenizerProof]:
    source = read_source(checkpoint, rows)
    return prove_vocabulary(read_vocabularies(checkpoint, source, rows), Reference(source.document, source.notes))


def _shifted(ids: Sequence[int]) -> list[int]:
    """Ids as fairseq counts them: <s>, <pad>, </s> and <unk> first."""
    return [number + 1 if number > 2 else (3, 0, 2)[number] for number in ids]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tokenizer_class", "rows"),
    [
        ("llama", "LlamaTokenizer", 900),
        ("gemma", "GemmaTokenizer", 900),
        ("gemma", "TokenizersBackend", 910),
        ("t5", "T5Tokenizer", 600),
        ("xlm-roberta", "XLMRobertaTokenizerFast", 502),
    ],
)
def test_ids_are_those_of_sentencepiece_itself(name: str, tokenizer_class: str, rows: int) -> None:
    vocabulary, proof = _proven(piece_files(trained(name), tokenizer_class), rows)
    # The tokenizers library drops the dot of an ô whose two parts its table replaced; SentencePiece does not.
    assert proof.different == (1 if "charsmap" in str(vocabulary.middle.keys()) else 0)
    assert len(proof.notes) == proof.different
    assert all("drops marks behind a letter that was composed already" in note for note in proof.notes)
    expected = [_shifted(ids) if name == "xlm-roberta" else ids for ids in own_ids(name)]
    with opened(vocabulary, MODEL) as vocab:
        found = [vocab.tokenize(sample, add_special=False, parse_special=False) for sample in TEXTS]
    assert found == expected


@pytest.mark.parametrize(
    ("name", "tokenizer_class", "rows"), [("llama", "LlamaTokenizer", 900), ("t5", "T5Tokenizer", 600)]
)
def test_scores_are_those_of_the_model(name: str, tokenizer_class: str, rows: int) -> None:
    model = parse_model("x", trained(name))
    vocabulary, _ = _proven(piece_files(trained(name), tokenizer_class), rows)
    assert vocabulary.scores[: len(model.pieces)] == tuple(piece.score for piece in model.pieces)
    assert min(vocabulary.scores) < -5
    assert len(set(vocabulary.scores)) > 300


def _both(model: bytes) -> Checkpoint:
    """A checkpoint with a tokenizer.json that transformers would make of a model, and with `model` beside it."""
    document = dict(read_source(piece_files(piece_model()), ROWS).document)
    checkpoint = piece_files(model, tokenizer__json=document, eos_token="</s>")
    assert read_source(checkpoint, ROWS).name == "tokenizer.json"
    return checkpoint


@pytest.mark.slow
def test_beside_a_tokenizer_json_the_scores_of_the_model_count() -> None:
    vocabulary, proof = _proven(_both(piece_model()))
    assert vocabulary.scores[-len(WORDS) :] == tuple(score for _, score, _ in WORDS)
    assert proof.notes == ()


def test_beside_a_tokenizer_json_a_damaged_model_is_told_and_merges_stand_for_it() -> None:
    vocabulary, proof = _proven(_both(piece_model()[:-1]))
    assert vocabulary.scores[-len(WORDS) :][:3] == (0.0, -1.0, -2.0)
    assert any("merges stand for the scores of tokenizer.model, which cannot be read" in note for note in proof.notes)


def test_beside_a_tokenizer_json_ranks_for_tiktoken_are_nothing_to_tell() -> None:
    assert _proven(_both(b"IQ== 0\n"))[1].notes == ()


def test_kinds_of_pieces_become_kinds_of_tokens() -> None:
    pieces = (*BASE, *BYTES, ("<mark>", 0.0, made.USER_DEFINED), ("gone", -3.0, made.UNUSED), *WORDS)
    vocabulary, _ = _proven(piece_files(piece_model(pieces, normalizer={3: 0})), len(pieces) + 1)
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, USER_DEFINED, UNUSED, *[NORMAL] * len(WORDS), UNUSED]
    assert list(vocabulary.types) == kinds
    assert (vocabulary.tokens[259], vocabulary.tokens[260]) == ("<mark>", "[PAD260]")
    assert (vocabulary.scores[259:261], vocabulary.scores[-1]) == ((0.0, -10000.0), -10000.0)
    assert dict(vocabulary.special.ids) == {"unk": 0, "bos": 1, "eos": 2}


def test_the_best_score_is_merged_first_whatever_the_order_of_the_pieces() -> None:
    pieces = (*BASE, *BYTES, *((piece, -score, kind) for piece, score, kind in WORDS))
    vocabulary, _ = _proven(piece_files(piece_model(pieces, normalizer={3: 0})), len(pieces))
    with opened(vocabulary, MODEL) as vocab:
        ids = vocab.tokenize("abab ab", add_special=False, parse_special=False)
    assert [vocabulary.tokens[number] for number in ids] == ["abab", "\u2581ab"]


@pytest.mark.slow
@pytest.mark.parametrize(("legacy", "deviates"), [(None, False), (True, False), (False, True)])
def test_a_space_after_a_special_token_is_legacy(legacy: bool | None, deviates: bool) -> None:
    _, proof = _proven(piece_files(trained("llama"), legacy=legacy), 900)
    assert any("puts a space before every text" in note for note in proof.notes) == deviates


@pytest.mark.parametrize(
    ("settings", "adds"),
    [
        ({}, {"bos": True, "sep": False}),
        ({"add_bos_token": False}, {"bos": False}),
        ({"add_eos_token": True}, {"bos": True, "eos": True, "sep": False}),
    ],
)
def test_special_tokens_go_around_a_text_as_the_settings_say(settings: dict[str, Any], adds: dict[str, bool]) -> None:
    vocabulary, _ = _proven(piece_files(piece_model(), **settings))
    assert dict(vocabulary.special.adds) == adds


@pytest.mark.slow
def test_a_space_goes_before_a_text_as_the_model_or_the_settings_say() -> None:
    def prefix(checkpoint: Checkpoint) -> Any:
        return _proven(checkpoint)[0].leading["tokenizer.ggml.add_space_prefix"].value

    assert prefix(piece_files(piece_model())) is True
    assert prefix(piece_files(piece_model(), add_prefix_space=False)) is False
    assert prefix(piece_files(piece_model(normalizer={3: 0}))) is False


@pytest.mark.slow
def test_added_tokens_are_at_their_ids_and_have_the_score_of_the_reference() -> None:
    decoder = {"1": {"content": "<s>", "special": True}, str(ROWS): {"content": "<tool>", "normalized": True}}
    checkpoint = piece_files(piece_model(), added_tokens_decoder=decoder, pad_token="<pad>")
    vocabulary, _ = _proven(checkpoint, ROWS + 2)
    assert vocabulary.tokens[ROWS:] == ("<tool>", "<pad>")
    assert vocabulary.types[ROWS:] == (USER_DEFINED, CONTROL)
    assert (vocabulary.scores[1], vocabulary.scores[2], vocabulary.scores[ROWS]) == (-1000.0, 0.0, -1000.0)


def test_fairseq_has_four_tokens_in_front_and_one_behind() -> None:
    vocabulary, _ = _proven(piece_files(trained("xlm-roberta"), "XLMRobertaTokenizer"), 502)
    assert vocabulary.tokens[:4] == ("<s>", "<pad>", "</s>", "<unk>")
    assert vocabulary.types[:5] == (CONTROL, CONTROL, CONTROL, UNKNOWN, NORMAL)
    assert (vocabulary.tokens[501], vocabulary.types[501]) == ("<mask>", CONTROL)
    assert dict(vocabulary.special.adds) == {"bos": True, "eos": True, "sep": True}


def test_t5_has_its_sentinels_behind() -> None:
    vocabulary, _ = _proven(piece_files(trained("t5"), "T5Tokenizer", extra_ids=3), 503)
    assert vocabulary.tokens[500:] == ("<extra_id_2>", "<extra_id_1>", "<extra_id_0>")
    assert vocabulary.types[500:] == (CONTROL,) * 3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("llama", "llama"), ("gemma", "llama"), ("xlm-roberta", "t5")])
def test_a_published_checkpoint_of_the_older_dialect_is_converted(name: str, kind: str, tmp_path: Path) -> None:
    path = convert(older_checkpoint(name, tmp_path / name), tmp_path / "model.gguf", type="F16").outfile
    keys = read_header(path).metadata
    assert (keys["tokenizer.ggml.model"], keys["tokenizer.ggml.add_bos_token"]) == (kind, True)
    expected = [_shifted(ids) if name == "xlm-roberta" else ids for ids in own_ids(name)]
    with open_vocab(path) as vocab:
        assert [vocab.tokenize(sample, add_special=False, parse_special=False) for sample in TEXTS] == expected


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (piece_model(trainer={3: 3}), "is a model of words"),
        (piece_model(trainer={3: 4}), "is a model of characters"),
        (piece_model(trainer={3: 9}), "is a model of the kind 9"),
        (piece_model(trainer={24: 1}), "has spaces behind words"),
        (piece_model(normalizer={5: 0}), "has spaces as they are"),
        (piece_model(trainer={35: 0}), "BPE that works neither on bytes nor falls back to them"),
        (piece_model((*BASE, *BYTES[:-1], *WORDS)), r"1 of the 256 byte tokens are missing .<0xFF>"),
        (piece_model((*BASE, ("a", -1.0, made.UNUSED)), trainer={3: 1}), "pieces that are not to be used"),
        (b"IQ== 0\nIg== 1\n", r"ranks for tiktoken.*\nCopy tokenizer\.json"),
    ],
)
def test_models_that_llama_cpp_has_not_are_refused(model: bytes, says: str) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        _read(piece_files(model))


@pytest.mark.slow
def test_runs_of_spaces_that_llama_cpp_would_keep_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r" \{2,\}"):
        _proven(piece_files(piece_model(normalizer={4: 1})))


def test_a_class_that_is_not_known_is_not_guessed() -> None:
    with pytest.raises(UnsupportedModel, match=r"class OddTokenizer, .*\n.*AutoTokenizer"):
        _read(piece_files(piece_model(), "OddTokenizer"))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (b"", r"tokenizer\.model holds no pieces"),
        (b"\x0a\x05\x0a", "byte 0: field 1 needs 4 bytes more than there are"),
        (b"\x0a", "byte 1: a number does not end"),
        (b"\xff" * 11, "byte 0: a number does not end"),
        (b"\x0b", "byte 0: a field is encoded in the way 3"),
        (b"\x02\x00", "byte 0: a field has the number 0"),
        (field(1, 7), "byte 1: field 1 is encoded in the way 0 and not 2"),
        (field(1, field(1, b"\xff")), "byte 4: a text is not UTF-8"),
        (field(1, field(1, "a") + field(2, 1)), "byte 6: field 2 is encoded in the way 0 and not 5"),
        (field(1, field(2, 1.0)), "byte 2: a piece has no text"),
        (piece_model((*BASE, ("a", float("nan"), 1))), "the piece 'a' has the score nan"),
        (piece_model((*BASE, ("a", 0.0, 7))), "the piece 'a' is of the kind 7"),
        (piece_model((*BASE, ("<s>", 0.0, 1))), "the pieces 1 and 3 are both '<s>'"),
        (piece_model(BASE[1:]), "0 pieces stand for what is unknown, not one"),
        (
            piece_model(normalizer={2: b"\x08\0\0\0ab"}),
            "charsmap is damaged: 6 bytes cannot hold a trie of 8",
        ),
        (piece_model(normalizer={2: b"\x04\0\0\0\xff\xff\xff\x7f\0"}), "its trie points outside of itself"),
    ],
)
def test_a_damaged_file_is_told_by_the_byte(model: bytes, says: str) -> None:
    with pytest.raises(BadCheckpoint, match=says):
        _read(piece_files(model))


def _either(model: bytes) -> PieceModel | None:
    """Read as far as a conversion would before it compares texts. Nothing but the two errors may come of it."""
    try:
        checkpoint = piece_files(model)
        source = read_source(checkpoint, ROWS)
        Reference(source.document)
        read_vocabularies(checkpoint, source, ROWS)
        return parse_model("x", model)
    except (BadCheckpoint, UnsupportedModel):
        return None


def test_every_truncation_is_read_or_refused() -> None:
    whole = piece_model((*BASE, *WORDS), trainer={40: 0, 41: 1, 42: 2}, normalizer={2: b""})
    assert parse_model("x", whole).kind == 2
    found = [_either(whole[:length]) for length in range(len(whole))]
    assert found.count(None) > len(whole) // 2


@pytest.mark.slow
def test_a_flipped_bit_in_every_byte_is_read_or_refused() -> None:
    whole = piece_model((*BASE, *WORDS), trainer={3: 1, 35: 0}, normalizer={2: _charsmap()})
    assert _either(whole) is not None
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        _either(bytes(changed))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama", "xlm-roberta"])
def test_random_damage_is_read_or_refused(name: str) -> None:
    generator = random.Random(5)
    whole = trained(name)
    for _ in range(200):
        changed = bytearray(whole[: generator.randint(1, len(whole))] if generator.random() < 0.5 else whole)
        for _ in range(generator.randint(1, 20)):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        _either(bytes(changed))


def _charsmap() -> bytes:
    """The table of the trained model for XLM-RoBERTa."""
    return parse_model("x", trained("xlm-roberta")).normalizer.charsmap


@pytest.mark.slow
def test_a_damaged_table_of_characters_never_ends_the_process() -> None:
    """Where the check lets one through, both libraries walk it."""
    generator = random.Random(11)
    table, walked = _charsmap(), 0
    for _ in range(150):
        changed = bytearray(table)
        for _ in range(generator.randint(1, 6)):
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
        checkpoint = piece_files(piece_model((*BASE, *WORDS), trainer={3: 1, 35: 0}, normalizer={2: bytes(changed)}))
        try:
            source = read_source(checkpoint, 12)
            reference, vocabulary = Reference(source.document), read_vocabularies(checkpoint, source, 12)[0]
        except (BadCheckpoint, UnsupportedModel):
            continue
        reference.encode(list(TEXTS), add_special=False)
        with opened(vocabulary, MODEL) as vocab:
            walked += len([vocab.tokenize(sample, add_special=False, parse_special=False) for sample in TEXTS])
    assert walked > 0
