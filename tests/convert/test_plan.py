"""The tensors of the GGUF follow from the headers, and every tensor of the checkpoint is accounted for."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localllm.convert import architectures
from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.plan import PlannedTensor, half_type, plan_tensors
from localllm.convert.reading import read_model
from localllm.errors import BadCheckpoint, LocalLLMError, UnsupportedModel
from tests.convert.helpers import MakeTiny, edit_json

Header = dict[str, dict[str, Any]]

EMPTY: dict[str, Any] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def _plan(folder: Path) -> list[PlannedTensor]:
    with open_checkpoint(folder) as checkpoint:
        family = architectures.find(checkpoint.config)
        return plan_tensors(checkpoint, family, checkpoint.config)


def _edit_header(folder: Path, edit: Callable[[Header], object]) -> None:
    """Change the header of a one-file checkpoint; its data stays."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def test_names_shapes_and_order(tiny: MakeTiny) -> None:
    plan = _plan(tiny(layers=11))
    assert [tensor.name for tensor in plan[:6]] == [
        "output.weight",
        "output_norm.weight",
        "token_embd.weight",
        "blk.0.attn_k.weight",
        "blk.0.attn_norm.weight",
        "blk.0.attn_output.weight",
    ]
    layers = [int(found.group(1)) for tensor in plan if (found := re.match(r"blk\.(\d+)", tensor.name))]
    assert layers == sorted(layers)
    shapes = {tensor.name: tensor.shape for tensor in plan}
    assert shapes["blk.3.attn_k.weight"] == (128, 256)
    assert shapes["blk.3.ffn_down.weight"] == (256, 512)
    assert {tensor.name for tensor in plan if tensor.keeps_f32} == {
        tensor.name for tensor in plan if len(tensor.shape) == 1
    }


def test_biases_are_converted_when_they_are_there(tiny: MakeTiny) -> None:
    names = {tensor.name for tensor in _plan(tiny(bias=True))}
    assert {"blk.0.attn_q.bias", "blk.1.attn_output.bias"} <= names


def test_a_tied_head_is_not_written_twice(tiny: MakeTiny) -> None:
    assert "output.weight" not in {tensor.name for tensor in _plan(tiny(tied=True))}
    stored = tiny("stored")
    edit_json(stored / "config.json", tie_word_embeddings=True)
    assert "output.weight" not in {tensor.name for tensor in _plan(stored)}


def test_a_head_that_is_not_tied_must_be_there(tiny: MakeTiny) -> None:
    folder = tiny(tied=True)
    edit_json(folder / "config.json", tie_word_embeddings=False)
    with pytest.raises(BadCheckpoint, match=r"the tensor lm_head\.weight is missing"):
        _plan(folder)


def test_stored_rotary_frequencies_are_ignored(tiny: MakeTiny) -> None:
    folder = tiny()
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    _edit_header(folder, lambda header: header.update({name: EMPTY}))
    assert _plan(folder)


def test_a_tensor_that_no_rule_uses_is_refused(tiny: MakeTiny) -> None:
    folder = tiny()
    name = "model.layers.0.self_attn.q_norm.weight"
    _edit_header(folder, lambda header: header.update({name: EMPTY}))
    with pytest.raises(BadCheckpoint, match=r"what to do with the tensor model\.layers\.0\.self_attn\.q_norm\.weight"):
        _plan(folder)


def test_more_layers_than_config_says_are_refused(tiny: MakeTiny) -> None:
    folder = tiny(layers=3)
    edit_json(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(BadCheckpoint, match=r"model\.layers\.2\.\S+ and 8 more.*\n.*names 2 layers"):
        _plan(folder)


def test_a_missing_tensor_is_named_with_what_is_left_over(tiny: MakeTiny) -> None:
    folder = tiny()
    old, new = "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.upp_proj.weight"
    _edit_header(folder, lambda header: header.update({new: header.pop(old)}))
    with pytest.raises(
        BadCheckpoint, match=re.escape(f"the tensor {old} is missing.\nLeft over in the checkpoint: {new}")
    ):
        _plan(folder)


def test_a_weight_of_a_type_that_is_not_converted_is_named(tiny: MakeTiny) -> None:
    folder = tiny(dtype="f16")
    _edit_header(folder, lambda header: header["lm_head.weight"].update(dtype="I16"))
    with pytest.raises(UnsupportedModel, match=r"lm_head\.weight is of type I16; F32, F16, BF16 are converted"):
        _plan(folder)


def test_a_wrong_shape_names_the_tensor_what_is_expected_and_what_is_found(tiny: MakeTiny) -> None:
    folder = tiny()
    _edit_header(folder, lambda header: header["lm_head.weight"].update(shape=[256, 320]))
    says = "lm_head.weight has shape [256, 320]; config.json asks for [320, 256] (vocab x hidden)"
    with pytest.raises(BadCheckpoint, match=re.escape(says)):
        _plan(folder)


@pytest.mark.parametrize(("dtype", "half"), [("bf16", "BF16"), ("f16", "F16"), ("f32", "F16")])
def test_the_16_bit_type_between(tiny: MakeTiny, dtype: str, half: str) -> None:
    with open_checkpoint(tiny(dtype=dtype)) as checkpoint:
        assert half_type(checkpoint) == half


@pytest.mark.parametrize(
    ("changes", "says", "hint"),
    [
        ({"hidden_act": "relu7"}, "hidden_act is 'relu7'", "the GGUF would be of another model"),
        ({"rope_parameters": {"rope_type": "twisted"}}, "rope type 'twisted'", "the GGUF would be of another model"),
        ({"intermediate_size": -1}, "intermediate_size is -1", "Copy config.json again"),
    ],
)
def test_what_config_says_is_told_with_its_folder_and_a_hint(
    tiny: MakeTiny, changes: dict[str, Any], says: str, hint: str
) -> None:
    source = tiny()
    edit_json(source / "config.json", **changes)
    with pytest.raises(LocalLLMError) as caught:
        read_model(source)
    assert caught.value.message.startswith(f"{source}: config.json: {says}")
    assert hint in caught.value.hint
