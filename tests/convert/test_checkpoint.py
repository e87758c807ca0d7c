"""Reading a checkpoint: one file or shards, rows on demand, and everything that can be wrong with the files."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest

from localllm.convert import prepare
from localllm.convert.checkpoint import open_checkpoint
from localllm.errors import BadCheckpoint, ModelNotFound, UnsupportedModel
from tests.convert.helpers import MakeTiny


def _header(path: Path) -> tuple[dict[str, dict[str, object]], bytes]:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _rewrite(path: Path, header: dict[str, dict[str, object]], data: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_one_file_and_shards_hold_the_same(tiny: MakeTiny) -> None:
    with open_checkpoint(tiny("one")) as one, open_checkpoint(tiny("three", shards=3)) as three:
        assert list(one.tensors) == list(three.tensors)
        assert {tensor.file for tensor in three.stored.values()} == {
            f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
        }
        for name, tensor in one.tensors.items():
            assert tensor.shape == three.tensors[name].shape
            np.testing.assert_array_equal(one.rows(name, 0, tensor.rows), three.rows(name, 0, tensor.rows))


@pytest.mark.parametrize(("dtype", "kind"), [("f32", np.float32), ("f16", np.float16), ("bf16", np.uint16)])
def test_rows_are_read_on_demand(tiny: MakeTiny, dtype: str, kind: type) -> None:
    with open_checkpoint(tiny(dtype=dtype)) as checkpoint:
        name = "model.layers.1.mlp.up_proj.weight"
        whole = checkpoint.rows(name, 0, 512)
        assert (whole.dtype, whole.shape) == (np.dtype(kind), (512, 256))
        buffer = memoryview(bytearray(1 << 20))
        np.testing.assert_array_equal(checkpoint.rows(name, 100, 110, buffer), whole[100:110])
        assert checkpoint.rows("model.norm.weight", 0, 256).shape == (256, 1)


def test_opening_reads_no_weights(tiny: MakeTiny) -> None:
    folder = tiny()
    path = folder / "model.safetensors"
    header, data = _header(path)
    with path.open("wb") as file:
        text = json.dumps(header).encode()
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + len(data))
    with open_checkpoint(folder) as checkpoint:
        assert not checkpoint.rows("lm_head.weight", 0, 320).any()


def test_shards_without_an_index_are_found_by_their_numbers(tiny: MakeTiny) -> None:
    folder = tiny(shards=2)
    (folder / "model.safetensors.index.json").unlink()
    with open_checkpoint(folder) as checkpoint:
        assert "lm_head.weight" in checkpoint.tensors


def test_a_missing_shard_is_named_with_what_the_index_puts_in_it(tiny: MakeTiny) -> None:
    folder = tiny(shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"shard model-00002-of-00003\.safetensors is missing; .* puts \d+ tensors"):
        open_checkpoint(folder)


def test_a_missing_shard_without_an_index_is_named(tiny: MakeTiny) -> None:
    folder = tiny(shards=3)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model-00003-of-00003.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"shard model-00003-of-00003\.safetensors is missing"):
        open_checkpoint(folder)


def test_truncated_safetensors_say_how_much_is_missing(tiny: MakeTiny) -> None:
    path = tiny() / "model.safetensors"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors is cut short: 1,000 bytes are missing"):
        open_checkpoint(path.parent)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"\xff" * 64, struct.pack("<Q", 4) + b"[1,]", b"\0" * 8])
def test_what_is_no_safetensors_file_is_refused(tiny: MakeTiny, content: bytes) -> None:
    path = tiny() / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors"):
        open_checkpoint(path.parent)


def test_a_tensor_whose_bytes_do_not_fit_its_shape_is_named(tiny: MakeTiny) -> None:
    path = tiny() / "model.safetensors"
    header, data = _header(path)
    header["model.norm.weight"]["shape"] = [255]
    _rewrite(path, header, data)
    with pytest.raises(BadCheckpoint, match=r"model\.norm\.weight has 512 bytes, its shape \[255\] takes 510"):
        open_checkpoint(path.parent)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data_offsets": [-512, 0]}, r"model\.norm\.weight begins 512 bytes before the data"),
        ({"data_offsets": [1 << 50, (1 << 50) + 512]}, "is cut short"),
        ({"data_offsets": [512, 0]}, r"model\.norm\.weight has -512 bytes, its shape \[256\] takes 512"),
        ({"data_offsets": [0.0, 512.0]}, r"0\.0 is no whole number"),
        ({"data_offsets": [0]}, "the header is not that of a safetensors file"),
        ({"shape": [-16, -16]}, r"has 512 bytes, its shape \[-16, -16\]"),
        ({"shape": [1 << 40, 1 << 40]}, r"has 512 bytes, its shape"),
        ({"shape": ["256"]}, "'256' is no whole number"),
        ({"shape": [True, 256]}, "True is no whole number"),
        ({"shape": None}, "the header is not that of a safetensors file"),
        ({"dtype": ["BF16"]}, "the header is not that of a safetensors file"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(tiny: MakeTiny, changes: dict[str, object], says: str) -> None:
    path = tiny() / "model.safetensors"
    header, data = _header(path)
    header["model.norm.weight"].update(changes)
    _rewrite(path, header, data)
    with pytest.raises(BadCheckpoint, match=says):
        open_checkpoint(path.parent)


@pytest.mark.parametrize("dtype", ["F4", "C64", "F8_E4M3FNUZ", "", "x"])
def test_a_type_that_is_not_known_is_named(tiny: MakeTiny, dtype: str) -> None:
    path = tiny() / "model.safetensors"
    header, data = _header(path)
    header["model.norm.weight"]["dtype"] = dtype
    _rewrite(path, header, data)
    with pytest.raises(UnsupportedModel, match=rf"model\.norm\.weight is of type {dtype};"):
        open_checkpoint(path.parent)


@pytest.mark.parametrize(("dtype", "width"), [("F8_E4M3", 1), ("F8_E5M2", 1), ("I8", 1), ("BOOL", 1), ("I64", 8)])
def test_a_weight_of_a_type_that_no_rule_takes_is_named(tiny: MakeTiny, dtype: str, width: int) -> None:
    path = tiny() / "model.safetensors"
    header, data = _header(path)
    at = len(data)
    header["model.norm.weight"] = {"dtype": dtype, "shape": [256], "data_offsets": [at, at + 256 * width]}
    _rewrite(path, header, data + bytes(256 * width))
    with pytest.raises(
        UnsupportedModel, match=rf"model\.norm\.weight is of type {dtype}; F32, F16, BF16 are converted"
    ):
        prepare(path.parent)


def test_bytes_that_two_tensors_share_are_refused(tiny: MakeTiny) -> None:
    path = tiny() / "model.safetensors"
    header, data = _header(path)
    header["model.layers.0.input_layernorm.weight"]["data_offsets"] = header["model.norm.weight"]["data_offsets"]
    _rewrite(path, header, data)
    says = r"the bytes of model\.layers\.0\.input_layernorm\.weight and model\.norm\.weight overlap"
    with pytest.raises(BadCheckpoint, match=says):
        open_checkpoint(path.parent)


def test_a_name_that_is_there_twice_is_refused(tiny: MakeTiny) -> None:
    path = tiny() / "model.safetensors"
    header, data = _header(path)
    entry = json.dumps(header["model.norm.weight"])
    text = json.dumps(header).replace("{", '{"model.norm.weight": ' + entry + ", ", 1).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    with pytest.raises(BadCheckpoint, match="a name is there twice"):
        open_checkpoint(path.parent)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_json_of_any_depth_is_refused(tiny: MakeTiny, name: str) -> None:
    path = tiny() / name
    text = b"[" * 200_000
    path.write_bytes((struct.pack("<Q", len(text)) if name.startswith("model") else b"") + text)
    with pytest.raises(BadCheckpoint, match=name):
        open_checkpoint(path.parent)


@pytest.mark.parametrize("file", ["../other/model.safetensors", "/etc/passwd", "..", "config.json"])
def test_an_index_leads_nowhere_else(tiny: MakeTiny, file: str) -> None:
    other, folder = tiny("other"), tiny(shards=2)
    index = folder / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    found["weight_map"] = dict.fromkeys(found["weight_map"], file)
    index.write_text(json.dumps(found))
    assert (other / "model.safetensors").is_file()
    with pytest.raises(BadCheckpoint, match=r"is missing|not a safetensors file"):
        open_checkpoint(folder)


def test_a_tensor_in_two_shards_is_refused(tiny: MakeTiny) -> None:
    folder = tiny(shards=2)
    (folder / "model-00001-of-00002.safetensors").write_bytes(
        (folder / "model-00002-of-00002.safetensors").read_bytes()
    )
    with pytest.raises(BadCheckpoint, match="is in model-00001-of-00002"):
        open_checkpoint(folder)


def test_a_tensor_that_only_the_index_knows_is_named(tiny: MakeTiny) -> None:
    folder = tiny(shards=2)
    index = folder / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    found["weight_map"]["model.ghost.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(found))
    with pytest.raises(BadCheckpoint, match=r"puts model\.ghost\.weight in model-00001.*not there"):
        open_checkpoint(folder)


def test_a_tensor_that_the_index_does_not_list_is_named(tiny: MakeTiny) -> None:
    folder = tiny(shards=2)
    index = folder / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    del found["weight_map"]["model.norm.weight"]
    index.write_text(json.dumps(found))
    with pytest.raises(BadCheckpoint, match=r"holds model\.norm\.weight, which .* does not list"):
        open_checkpoint(folder)


def test_an_index_without_a_map_is_refused(tiny: MakeTiny) -> None:
    folder = tiny(shards=2)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(BadCheckpoint, match="has no weight_map"):
        open_checkpoint(folder)


def test_a_lora_adapter_is_no_checkpoint(tiny: MakeTiny) -> None:
    folder = tiny()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    with pytest.raises(BadCheckpoint, match="convert BASE --lora DIR"):
        open_checkpoint(folder)


def test_a_missing_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="There is no folder"):
        open_checkpoint(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(BadCheckpoint, match="is a file, not the folder of a checkpoint, and does not begin as a GGUF"):
        open_checkpoint(tmp_path / "file")


def test_a_folder_without_config_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"has no config\.json"):
        open_checkpoint(tmp_path)


def test_broken_json_is_named(tiny: MakeTiny) -> None:
    folder = tiny()
    (folder / "config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"config\.json is not valid JSON.*\nDownload the file again"):
        open_checkpoint(folder)
    (folder / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(BadCheckpoint, match=r"config\.json is not UTF-8: .* at byte 7\.\nDownload the file again"):
        open_checkpoint(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.json",
        "tokenizer.json",
    ],
)
@pytest.mark.parametrize("content", ["[1]", "null", '"text"'])
def test_a_file_of_settings_that_holds_no_object_is_named(tiny: MakeTiny, name: str, content: str) -> None:
    folder = tiny()
    (folder / name).write_text(content)
    with pytest.raises(BadCheckpoint, match=rf"{re.escape(name)} does not hold a JSON object"):
        prepare(folder)
