"""A real encoder, all-MiniLM-L6-v2: the bytes of llama.cpp's converter, and the embeddings of the published model."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

import pytest
from make_tiny_models import byte_level_tokenizer, write_json

from localllm.convert import convert
from localllm.gguf_file import read_header
from tests.convert.golden import llama_embedding
from tests.convert.minilm import SENTENCES, reference_digests, sentences, tensors_digest

VOCABULARY = 30522


@pytest.fixture(scope="module")
def checkpoint(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published model with a byte-level tokenizer: these tests are of the weights, and bring token ids along."""
    folder = tmp_path_factory.mktemp("minilm") / "all-MiniLM-L6-v2"
    shutil.copytree(minilm, folder, ignore=shutil.ignore_patterns("*token*", "vocab.txt", "model.safetensors"))
    (folder / "model.safetensors").symlink_to(minilm / "model.safetensors")
    write_json(folder / "tokenizer.json", byte_level_tokenizer(VOCABULARY))
    write_json(folder / "tokenizer_config.json", {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    return folder


@pytest.mark.parametrize("kind", ["F16", "F32", "Q8_0"])
def test_a_real_encoder_is_converted(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    path = convert(checkpoint, tmp_path / f"{kind}.gguf", type=kind).outfile
    assert read_header(path).get("bert.pooling_type") == 1
    if platform.machine() in ("x86_64", "AMD64"):  # elsewhere products are fused, and rounded otherwise
        assert tensors_digest(path) == reference_digests()[kind]
    assert [sentence.text for sentence in sentences()] == list(SENTENCES)
    for sentence in sentences():
        assert float(sentence.vector @ sentence.vector) == pytest.approx(1, abs=1e-5)
        assert float(llama_embedding(path, sentence.tokens) @ sentence.vector) > 0.999, sentence.text
