"""The pooling that sentence-transformers wrote beside a checkpoint, and checkpoints of encoders with a head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_tiny_models import write_json, write_weights

from localllm.convert import convert, prepare
from localllm.errors import BadCheckpoint, UnsupportedModel
from localllm.gguf_file import read_header
from tests.convert.golden import TOKENS, error, goldens, llama_embedding, seeded, weight, write_checkpoint

GOLDENS = {golden.name: golden for golden in goldens()}
MODULES = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


def _encoder(tmp_path: Path, pooling: dict[str, Any] | None, modules: list[dict[str, Any]] = MODULES) -> Path:
    folder = write_checkpoint(GOLDENS["bert"], tmp_path / "tiny")
    write_json(folder / "modules.json", modules)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        write_json(folder / "1_Pooling" / "config.json", pooling)
    return folder


@pytest.mark.parametrize(
    ("pooling", "number"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, 1),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, 2),
        ({"pooling_mode_lasttoken": True}, 3),
        ({"embedding_dimension": 64, "pooling_mode": "cls"}, 2),
        ({"pooling_mode": ["mean"]}, 1),
    ],
)
def test_pooling_in_either_dialect(pooling: dict[str, Any], number: int, tmp_path: Path) -> None:
    path = convert(_encoder(tmp_path, pooling), tmp_path / "x.gguf", type="F32").outfile
    assert read_header(path).get("bert.pooling_type") == number


@pytest.mark.parametrize("modules", [{"0": MODULES[0]}, ["Transformer"]])
def test_modules_that_are_no_list_of_steps_are_refused(modules: Any, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"modules\.json does not hold a list of objects"):
        prepare(_encoder(tmp_path, None, modules), "F32")


@pytest.mark.parametrize(
    ("pooling", "says"),
    [
        ({"pooling_mode_max_tokens": True}, "pooling by max"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "pooling by mean and cls"),
        ({}, "pooling by nothing"),
    ],
)
def test_pooling_that_llama_cpp_does_not_know_is_refused(pooling: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        prepare(_encoder(tmp_path, pooling), "F32")


def test_a_step_after_pooling_is_refused(tmp_path: Path) -> None:
    modules = [*MODULES, {"idx": 3, "path": "3_Dense", "type": "sentence_transformers.models.Dense"}]
    with pytest.raises(UnsupportedModel, match="'Dense'"):
        prepare(_encoder(tmp_path, {"pooling_mode": "mean"}, modules), "F32")


def _embedding_gemma(folder: Path, layers: list[tuple[int, int]], **settings: Any) -> Path:
    """A tiny EmbeddingGemma with layers behind the pooling, of which `settings` change what they say."""
    write_checkpoint(GOLDENS["embeddinggemma"], folder)
    steps = [("1_Pooling", "Pooling"), *((f"{number}_Dense", "Dense") for number in range(2, 2 + len(layers)))]
    kinds = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in steps]
    write_json(folder / "modules.json", [*MODULES[:1], *kinds, *MODULES[2:]])
    for path, _ in steps:
        (folder / path).mkdir()
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    for (path, _), (rows, columns) in zip(steps[1:], layers, strict=True):
        identity = {"bias": False, "activation_function": "torch.nn.modules.linear.Identity"}
        write_json(
            folder / path / "config.json", {"in_features": columns, "out_features": rows, **identity, **settings}
        )
        write_weights(folder / path, {"linear.weight": seeded(path, (rows, columns))})
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("type", "limit"), [("F32", 1e-6), ("Q8_0", 1e-2)])
def test_layers_behind_the_pooling_make_the_embedding(type: str, limit: float, tmp_path: Path) -> None:
    made = convert(_embedding_gemma(tmp_path / "whole", [(128, 64), (64, 128)]), tmp_path / "whole.gguf", type=type)
    plain = convert(_embedding_gemma(tmp_path / "plain", []), tmp_path / "plain.gguf", type="F32")
    expected = weight("3_Dense", (64, 128)) @ weight("2_Dense", (128, 64)) @ llama_embedding(plain.outfile, TOKENS)
    assert error(expected / np.linalg.norm(expected), llama_embedding(made.outfile, TOKENS)) < limit
    keys = read_header(made.outfile)
    features = [keys.get(f"gemma-embedding.dense_{number}_feat_{way}") for number in (2, 3) for way in ("in", "out")]
    assert features == [64, 128, 128, 64]


@pytest.mark.parametrize(
    ("layers", "settings", "says"),
    [
        ([(128, 64), (64, 128)], {"bias": True}, "2_Dense/config.json: .* has a bias"),
        ([(128, 64), (64, 128)], {"activation_function": "torch.nn.modules.activation.Tanh"}, "the activation Tanh"),
        ([(128, 64), (64, 128)], {"activation_function": None}, "the activation None"),
        ([(64, 64)], {}, r"behind the pooling are \[64, 64\]; llama.cpp has two"),
        ([(128, 64), (32, 128)], {}, r"are \[128, 64\], \[32, 128\]; llama.cpp has two"),
    ],
)
def test_layers_behind_the_pooling_that_llama_cpp_does_not_have_are_refused(
    layers: list[tuple[int, int]], settings: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        prepare(_embedding_gemma(tmp_path / "tiny", layers, **settings), "F32")


def test_a_layer_behind_the_pooling_without_its_matrix_is_an_error(tmp_path: Path) -> None:
    folder = _embedding_gemma(tmp_path / "tiny", [(128, 64), (64, 128)])
    write_weights(folder / "3_Dense", {"other.weight": seeded("3_Dense", (64, 128))})
    with pytest.raises(BadCheckpoint, match=r"3_Dense/model\.safetensors does not hold one matrix linear\.weight"):
        prepare(folder, "F32")
    (folder / "3_Dense" / "model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"has no 3_Dense/model\.safetensors"):
        prepare(folder, "F32")


def test_a_missing_file_of_pooling_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"no 1_Pooling/config\.json"):
        prepare(_encoder(tmp_path, None), "F32")


def test_without_modules_no_pooling_is_claimed(tmp_path: Path) -> None:
    path = convert(write_checkpoint(GOLDENS["bert"], tmp_path / "tiny"), tmp_path / "x.gguf", type="F32").outfile
    assert read_header(path).get("bert.pooling_type") is None
    assert read_header(path).get("bert.attention.causal") is False


def test_a_masked_language_model_is_its_encoder(tmp_path: Path) -> None:
    """With the prefix and the old names of norms that the first BERT has, and a head that is told to be left out."""
    golden = GOLDENS["bert"]
    plain = convert(write_checkpoint(golden, tmp_path / "tiny"), tmp_path / "plain.gguf", type="F32").outfile
    config = golden.config | {"architectures": ["BertForMaskedLM"]}
    folder = write_checkpoint(golden, tmp_path / "masked", config)
    weights = {_first_name(name): seeded(name, shape) for name, shape in golden.shapes.items()}
    head = {"cls.predictions.bias": (320,), "cls.predictions.transform.dense.weight": (64, 64)}
    write_weights(folder, weights | {name: seeded(name, shape) for name, shape in head.items()})
    made = convert(folder, tmp_path / "masked.gguf", type="F32")
    assert any("predicts masked tokens is left out" in note for note in made.preview.notes)
    for ours, theirs in zip(read_header(made.outfile).tensors, read_header(plain).tensors, strict=True):
        assert (ours.name, ours.shape) == (theirs.name, theirs.shape)
        assert _data(made.outfile, ours.offset, ours.n_bytes) == _data(plain, theirs.offset, theirs.n_bytes)


def _first_name(name: str) -> str:
    for new, old in (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")):
        name = name.replace(new, old)
    return f"bert.{name}"


def _data(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
