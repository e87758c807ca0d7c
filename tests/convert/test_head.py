"""A head that is stored beside embeddings to which the configuration ties it."""

from __future__ import annotations

from pathlib import Path

import pytest
from make_tiny_models import write_weights

from localllm.convert import convert, prepare
from localllm.convert.reading import read_model
from localllm.errors import UnsupportedModel
from tests.convert.golden import Golden, error, goldens, llama_outputs, seeded, write_checkpoint
from tests.convert.helpers import edit_json

GOLDENS = {golden.name: golden for golden in goldens()}


def _stored(golden: Golden, folder: Path, *, copied: bool) -> Path:
    """A checkpoint that says that its head is tied and stores one, a copy of its embeddings or another."""
    write_checkpoint(golden, folder)
    edit_json(folder / "config.json", tie_word_embeddings=True)
    weights = {name: seeded(name, shape) for name, shape in golden.shapes.items()}
    embeddings = next(name for name in weights if name.endswith("embed_tokens.weight"))
    shape = golden.shapes[embeddings]
    weights["lm_head.weight"] = seeded(embeddings, shape) if copied else seeded("lm_head.weight", shape)
    write_weights(folder, weights)
    return folder


def test_another_head_counts_as_in_transformers(tmp_path: Path) -> None:
    golden = GOLDENS["llama"]
    with prepare(_stored(golden, tmp_path / "tiny", copied=False), "F32") as prepared:
        assert "another head is stored" in prepared.preview.notes[0]
    path = convert(tmp_path / "tiny", tmp_path / "x.gguf", type="F32").outfile
    assert error(golden.outputs, llama_outputs(path)) < 1e-6


def test_a_copy_of_the_embeddings_is_left_out(tmp_path: Path) -> None:
    found = read_model(_stored(GOLDENS["llama"], tmp_path / "tiny", copied=True))
    found.checkpoint.files.close()
    assert "output.weight" not in {tensor.name for tensor in found.tensors}
    assert found.notes == ()


def test_another_head_is_refused_where_llama_cpp_has_none(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="tie_word_embeddings is False"):
        prepare(_stored(GOLDENS["cohere"], tmp_path / "tiny", copied=False), "F32")
