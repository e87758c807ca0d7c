"""Gemma 3 270M, rebuilt from a GGUF that others made: what is made of it again is that GGUF, but for rounding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from rebuild_checkpoint import rebuild

from localllm.convert import convert, corpus
from localllm.convert.header import text
from localllm.convert.reference import Reference
from localllm.convert.verify import opened, prove_vocabulary
from localllm.convert.vocabulary import NORMAL, UNKNOWN, read_source, read_vocabularies
from localllm.gguf_file import Array, read_header
from localllm.native.vocab import open_vocab
from tests.convert.golden import error, llama_outputs
from tests.convert.helpers import SPACE_MARK
from tests.convert.packed.files import tensor_bytes
from tests.convert.piece_files import piece_files, piece_model

pytestmark = pytest.mark.slow

_OWN = re.compile(
    # Where the file comes from, and how it is quantized.
    r"general\.(?!architecture$|type$).*|localllm\..*"
    # Said by us where llama.cpp has it built in, and by them where it is the default.
    r"|gemma3\.rope\.(dimension_count|freq_base_swa)|tokenizer\.ggml\.add_eos_token"
    # A tokenizer.json has no scores: the order of its merges says the same.
    r"|tokenizer\.ggml\.scores"
)
"""Keys in which the files may differ."""


@pytest.fixture(scope="module")
def checkpoint(gemma3: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint, in 16 bits."""
    folder = rebuild(gemma3, tmp_path_factory.mktemp("rebuilt") / "gemma-3-270m", "f16")
    yield folder
    (folder / "model.safetensors").unlink()


def _array(value: Any) -> list[Any]:
    assert isinstance(value, Array)
    return list(value)


def test_the_tensors_are_those_of_the_other_file_dequantized(checkpoint: Path, gemma3: Path, tmp_path: Path) -> None:
    path = convert(checkpoint, tmp_path / "x.gguf", type="F16").outfile
    ours, theirs = ({t.name: t for t in gguf.GGUFReader(file).tensors} for file in (path, gemma3))
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        if tensor.tensor_type == gguf.GGMLQuantizationType.F32:
            assert np.array_equal(ours[name].data, tensor.data), name
        for start in range(0, len(tensor.data), 1 << 14):
            rows = gguf.quants.dequantize(tensor.data[start : start + (1 << 14)], tensor.tensor_type)
            assert np.array_equal(ours[name].data[start : start + (1 << 14)], rows.astype(ours[name].data.dtype)), name
    assert error(llama_outputs(gemma3), llama_outputs(path)) < 5e-3, "but for how activations are rounded"
    path.unlink()


def test_the_keys_are_those_of_the_other_file(checkpoint: Path, gemma3: Path, tmp_path: Path) -> None:
    ours, theirs = read_header(convert(checkpoint, tmp_path / "x.gguf", type="Q8_0").outfile), read_header(gemma3)
    keys = {key for key in ours.metadata.keys() | theirs.metadata.keys() if not _OWN.fullmatch(key)}
    assert {key for key in keys if ours.get(key) != theirs.get(key)} == {"tokenizer.ggml.token_type"}
    types = [_array(header.metadata["tokenizer.ggml.token_type"]) for header in (ours, theirs)]
    differing = [number for number, pair in enumerate(zip(*types, strict=True)) if pair[0] != pair[1]]
    assert differing == [ours.get("tokenizer.ggml.unknown_token_id")], "unknown for us, a control token for them"


def test_quantized_again_every_tensor_has_its_type_and_simple_blocks_their_bytes(
    checkpoint: Path, gemma3: Path, tmp_path: Path
) -> None:
    ours = tensor_bytes(convert(checkpoint, tmp_path / "x.gguf", type="Q4_K_M").outfile)
    theirs = tensor_bytes(gemma3)
    assert {name: kind for name, (kind, _) in ours.items()} == {name: kind for name, (kind, _) in theirs.items()}
    differing = {kind for name, (kind, data) in ours.items() if data != theirs[name][1]}
    assert differing <= {"Q4_K", "Q6_K"}, "whose scales are searched for, from numbers that were rounded already"


def test_its_pieces_as_a_sentencepiece_model_give_its_scores_and_token_ids(gemma3: Path) -> None:
    keys = read_header(gemma3).metadata
    tokens, scores, types = (_array(keys[f"tokenizer.ggml.{name}"]) for name in ("tokens", "scores", "token_type"))
    texts = [token.replace(" ", SPACE_MARK) for token in tokens]
    kinds = [UNKNOWN if token == "<unk>" else kind for token, kind in zip(texts, types, strict=True)]
    model = piece_model(
        list(zip(texts, scores, kinds, strict=True)), trainer={40: 3, 41: 2, 42: 1, 43: 0}, normalizer={3: 0}
    )
    checkpoint = piece_files(model, "GemmaTokenizer", config__json={"model_type": "gemma3_text"})
    source = read_source(checkpoint, len(texts))
    vocabulary, proof = prove_vocabulary(
        read_vocabularies(checkpoint, source, len(texts)), Reference(source.document, source.notes)
    )
    assert proof.different == 0
    normal = [number for number, kind in enumerate(kinds) if kind == NORMAL]
    assert [vocabulary.scores[number] for number in normal] == [scores[number] for number in normal]
    with opened(vocabulary, {"general.architecture": text("gemma3")}) as ours, open_vocab(gemma3) as theirs:
        for sample in corpus.TEXTS:
            ids = [vocab.tokenize(sample, add_special=True, parse_special=True) for vocab in (ours, theirs)]
            assert ids[0] == ids[1], sample
