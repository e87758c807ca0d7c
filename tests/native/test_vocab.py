"""Text to tokens and back with the vocabulary of the real default model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.errors import BadModelFile
from localllm.native.handles import open_model
from localllm.native.vocab import Vocab, open_vocab


@pytest.fixture(scope="module")
def vocab(smollm2: Path) -> Iterator[Vocab]:
    with open_vocab(smollm2) as vocab:
        yield vocab


@pytest.mark.parametrize("text", ["Hello, world!", "naïve café — 東京 🙂", "  two  spaces\n\ttab", "", "ab" * 3000])
def test_pieces_join_to_the_text(vocab: Vocab, text: str) -> None:
    ids = vocab.tokenize(text, add_special=False, parse_special=False)
    assert b"".join(vocab.piece(token) for token in ids).decode() == text


def test_special_tokens_are_read_only_when_asked(vocab: Vocab) -> None:
    assert len(vocab.tokenize("<|im_end|>", add_special=False, parse_special=True)) == 1
    assert len(vocab.tokenize("<|im_end|>", add_special=False, parse_special=False)) > 1


def test_control_tokens_have_a_text_but_no_piece(vocab: Vocab) -> None:
    assert vocab.text(vocab.eos) == "<|im_end|>"
    assert vocab.piece(vocab.eos) == b""
    assert vocab.ends_generation(vocab.eos)
    assert vocab.text(-1) == ""


def test_control_tokens_that_are_shown_have_a_piece_unless_they_end_the_turn(smollm2: Path) -> None:
    with open_model(smollm2, vocab_only=True) as model:
        shown = Vocab(model, {"<|im_start|>", "<|im_end|>"})
        assert shown.piece(shown.bos) == b"<|im_start|>"
        assert shown.piece(shown.eos) == b""


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("not a model")
    with pytest.raises(BadModelFile, match=r"notes\.gguf"), open_vocab(path):
        pass
