"""A real encoder, all-MiniLM-L6-v2: the bytes of llama.cpp's converter, and the embeddings of the published model."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from localllm.convert import convert
from localllm.gguf_file import read_header
from localllm.native.vocab import open_vocab
from tests.convert.golden import llama_embedding
from tests.convert.minilm import SENTENCES, reference_digests, sentences, tensors_digest


@pytest.mark.parametrize("kind", ["F16", "F32", "Q8_0"])
@pytest.mark.slow
def test_a_real_encoder_is_converted(kind: str, minilm: Path, tmp_path: Path) -> None:
    path = convert(minilm, tmp_path / f"{kind}.gguf", type=kind).outfile
    assert read_header(path).get("bert.pooling_type") == 1
    if platform.machine() in ("x86_64", "AMD64"):  # elsewhere products are fused, and rounded otherwise
        assert tensors_digest(path) == reference_digests()[kind]
    assert [sentence.text for sentence in sentences()] == list(SENTENCES)
    with open_vocab(path) as vocab:
        for sentence in sentences():
            assert vocab.tokenize(sentence.text, add_special=True, parse_special=True) == list(sentence.tokens)
    for sentence in sentences():
        assert float(sentence.vector @ sentence.vector) == pytest.approx(1, abs=1e-5)
        assert float(llama_embedding(path, sentence.tokens) @ sentence.vector) > 0.999, sentence.text
