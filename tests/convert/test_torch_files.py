"""Files of `torch.save`: real ones are read to the number; what is wrong or wicked is refused and never run."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.files import LocalFiles
from localllm.convert.tensor import SourceTensor, read_rows
from localllm.convert.torch_files import read_torch_header
from localllm.errors import BadCheckpoint, UnsupportedModel
from tests.convert.helpers import MakeTiny
from tests.convert.packed.files import assert_same_files, read_stored
from tests.convert.torch_pickles import (
    called,
    dictionary,
    named,
    number,
    script,
    tensor,
    text,
    tuple_of,
    write_tensors,
    write_zip,
)

REAL = Path(__file__).parent / "torch_files"
FOUR = {"0": np.arange(4, dtype=np.float32).tobytes()}


def _read(path: Path) -> dict[str, SourceTensor]:
    return {tensor.name: tensor for tensor in read_torch_header(LocalFiles(path.parent), path.name)}


def _numbers(path: Path, tensor: SourceTensor) -> list[Any]:
    files = LocalFiles(path.parent)
    try:
        found: list[Any] = read_rows(files, tensor, 0, tensor.rows).reshape(-1).tolist()
        return found
    finally:
        files.close()


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_what_torch_wrote_is_read(name: str) -> None:
    tensors = _read(REAL / name)
    expected: dict[str, tuple[str, tuple[int, ...], list[Any]]] = {
        "a.weight": ("F16", (3, 4), list(range(12))),
        "a.bias": ("BF16", (3,), [0, 0x3F80, 0x4000]),
        "b.weight": ("F32", (6, 4), list(range(24))),
        "b.tied": ("F32", (6, 4), list(range(24))),
        "b.part": ("F32", (3, 4), list(range(8, 20))),
        "c.ids": ("I64", (1, 5), list(range(5))),
        "c.scalar": ("F64", (), [7]),
        "c.flags": ("BOOL", (4,), [0, 1, 1, 1]),
    }
    if name == "zip.bin":
        expected["d.codes"] = ("F8_E4M3", (2, 3), [0x00, 0x38, 0x40, 0x44, 0x48, 0x4A])
    found = {name: (t.dtype, t.shape, _numbers(REAL / "x", t)) for name, t in tensors.items()}
    assert found == expected


def test_numbers_that_do_not_lie_behind_each_other_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"numbers of a \[4, 3\] do not lie behind each other.* \[1, 4\]"):
        _read(REAL / "transposed.bin")


def test_a_module_is_refused_by_the_name_of_its_class() -> None:
    with pytest.raises(BadCheckpoint, match=r"wants 'torch\.nn\.modules\.linear\.Linear', which no tensor needs"):
        _read(REAL / "module.bin")


@pytest.mark.slow
def test_a_checkpoint_in_pickles_gives_the_file_that_safetensors_give(tiny: MakeTiny) -> None:
    plain, pickled = tiny("plain"), tiny("pickled")
    write_tensors(pickled / "pytorch_model.bin", read_stored(pickled))
    (pickled / "model.safetensors").unlink()
    assert_same_files(pickled, plain, ("BF16",))


@pytest.mark.slow
def test_shards_of_pickles_and_their_index(tiny: MakeTiny) -> None:
    plain, pickled = tiny("plain"), tiny("pickled", shards=2)
    tensors, weight_map = read_stored(pickled), {}
    for place, name in enumerate(sorted(tensors)):
        weight_map[name] = f"pytorch_model-0000{place % 2 + 1}-of-00002.bin"
    for file in set(weight_map.values()):
        write_tensors(pickled / file, {name: tensors[name] for name in tensors if weight_map[name] == file})
    for path in pickled.glob("*.safetensors*"):
        path.unlink()
    assert_same_files(pickled, plain, ("BF16",))
    lost = pickled / "pytorch_model-00002-of-00002.bin"
    lost.unlink()
    with pytest.raises(BadCheckpoint, match=f"shard {lost.name} is missing"):
        open_checkpoint(pickled)


def test_safetensors_are_read_where_both_are_there(tiny: MakeTiny) -> None:
    folder = tiny()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Wicked(folder / "ran")))
    with open_checkpoint(folder) as checkpoint:
        assert {tensor.file for tensor in checkpoint.stored.values()} == {"model.safetensors"}


class _Wicked:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("inside", [True, False])
def test_what_would_run_is_named_and_not_run(tmp_path: Path, protocol: int, inside: bool) -> None:
    wicked = _Wicked(tmp_path / "ran")
    program = pickle.dumps({"a": [{"b": wicked}]} if inside else wicked, protocol)
    write_zip(tmp_path / "x.bin", program, {})
    (tmp_path / "legacy.bin").write_bytes(program)
    for name in ("x.bin", "legacy.bin"):
        with pytest.raises(BadCheckpoint, match=r"wants 'posix\.system'|does (INST|PUT|DICT|LIST|UNICODE)"):
            _read(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    pickle.loads(program)
    assert (tmp_path / "ran").exists()


GLOBALS = [
    ("builtins", "getattr"),
    ("builtins", "eval"),
    ("__builtin__", "getattr"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("torch", "load"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict.__init__"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("x\x1b[2J", "y"),
]


@pytest.mark.parametrize(("module", "name"), GLOBALS)
def test_any_other_name_is_refused(tmp_path: Path, module: str, name: str) -> None:
    stacked = text(module) + text(name) + pickle.STACK_GLOBAL
    for function in (named(module, name), stacked):
        program = script(dictionary({"a": called(function, text("x"))}))
        with pytest.raises(BadCheckpoint, match="which no tensor needs") as caught:
            _read(write_zip(tmp_path / "x.bin", program, {}))
        assert repr(f"{module}.{name}") in str(caught.value)
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            called(named("torch._utils", "_rebuild_tensor_v2"), called(named("torch", "FloatStorage"))),
            "what the tensor a",
        ),
        (called(tensor("0", (4,)), text("x")), "a call of what is no function"),
        (called(text("os"), text("x")), "a call of what is no function"),
        (named("torch", "FloatStorage") + pickle.EMPTY_DICT + pickle.BUILD, "a state is set on what has none"),
        (tensor("0", (4,)) + pickle.EMPTY_DICT + pickle.SETITEMS, "items are put into what is no dictionary"),
        (pickle.EMPTY_TUPLE + pickle.NEWOBJ, "does NEWOBJ"),
        (pickle.BINGET + b"\7", "damaged"),
        (pickle.EMPTY_DICT + tuple_of() + number(1) + pickle.SETITEM, "a key is no text"),
        (pickle.TUPLE3, "damaged"),
        (b"\xff", "damaged"),
        (text("x"), "'a' is no tensor"),
        (named("torch", "FloatStorage"), "'a' is no tensor"),
        (tensor("0", (4,), "OrderedDict"), "wants 'torch.OrderedDict'"),
        (tensor("1", (4,)), "storage data/1 of a tensor is missing"),
        (tensor("../data.pkl", (4,)), "storage data/../data.pkl of a tensor is missing"),
        (tensor("0", (5,)), "a takes 20 bytes from 0 on; its storage has 16"),
        (tensor("0", (4,), first=1), "a takes 16 bytes from 4 on; its storage has 16"),
        (tensor("0", (4,), "DoubleStorage"), "a takes 32 bytes"),
        (tensor("0", (-4,)), "does not say what the tensor a is"),
        (tensor("0", (4,), first=-1), "does not say what the tensor a is"),
        (tensor("0", (2, 2), strides=(2,)), "does not say what the tensor a is"),
        (tensor("0", (2**31 - 1,) * 3), "its storage has 16"),
    ],
)
def test_what_is_no_tensor_is_refused(tmp_path: Path, value: bytes, says: str) -> None:
    with pytest.raises(BadCheckpoint) as caught:
        _read(write_zip(tmp_path / "x.bin", script(dictionary({"a": value})), FOUR))
    assert says in str(caught.value)


@pytest.mark.slow
def test_tuples_in_tuples_are_no_keys_and_cost_no_stack(tmp_path: Path) -> None:
    deep = pickle.EMPTY_TUPLE + pickle.TUPLE1 * 500_000
    program = script(pickle.EMPTY_DICT + deep + number(1) + pickle.SETITEM)
    with pytest.raises(BadCheckpoint, match="a key is no text"):
        _read(write_zip(tmp_path / "x.bin", program, {}))


def test_a_pickle_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="no dictionary of tensors"):
        _read(write_zip(tmp_path / "x.bin", script(tensor("0", (4,))), FOUR))


def test_a_pickle_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="damaged"):
        _read(write_zip(tmp_path / "x.bin", script(dictionary({}))[:-1], {}))


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_files_that_are_cut_short_are_refused_wherever(tmp_path: Path, name: str) -> None:
    content = (REAL / name).read_bytes()
    for length in range(0, len(content), 41):
        (tmp_path / "x.bin").write_bytes(content[:length])
        with pytest.raises(BadCheckpoint):
            _read(tmp_path / "x.bin")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_files_with_a_changed_byte_are_read_or_refused(tmp_path: Path, name: str) -> None:
    content = bytearray((REAL / name).read_bytes())
    generator = np.random.default_rng(1)
    for at in generator.integers(0, len(content), 400):
        changed = bytearray(content)
        changed[at] ^= int(generator.integers(1, 256))
        (tmp_path / "x.bin").write_bytes(changed)
        try:
            for found in _read(tmp_path / "x.bin").values():
                assert found.offset + found.rows * found.row_bytes <= len(content)
        except (BadCheckpoint, UnsupportedModel):
            pass


def test_compressed_storages_are_refused(tmp_path: Path) -> None:
    bomb = {"0": bytes(1 << 20)}
    program = script(dictionary({"a": tensor("0", (1 << 18,))}))
    with pytest.raises(BadCheckpoint, match=r"is compressed, which torch\.save does not do"):
        _read(write_zip(tmp_path / "x.bin", program, bomb, zipfile.ZIP_DEFLATED))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    program = script(dictionary({"a": tensor("0", (4,)), "b": tensor("1", (4,))}))
    path = write_zip(tmp_path / "x.bin", program, {**FOUR, "1": FOUR["0"]})
    content = bytearray(path.read_bytes())
    first, second = (content.rindex(f"archive/data/{key}".encode()) - 46 for key in (0, 1))
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=r"not one that torch\.save writes"):
        _read(path)


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    with pytest.raises(BadCheckpoint, match=r"not one that torch\.save writes"):
        _read(tmp_path / "x.bin")


def test_numbers_the_other_way_round_are_refused(tmp_path: Path) -> None:
    program = script(dictionary({"a": tensor("0", (4,))}))
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", b"big")
    with pytest.raises(UnsupportedModel, match="bytes go the other way round"):
        _read(tmp_path / "x.bin")


def test_an_older_file_whose_storage_is_longer_than_the_file(tmp_path: Path) -> None:
    content = (REAL / "legacy.bin").read_bytes()
    at = content.rindex(struct.pack("<q", 24) + np.arange(2, dtype=np.float32).tobytes())
    (tmp_path / "x.bin").write_bytes(content[:at] + struct.pack("<q", 1 << 40) + content[at + 8 :])
    with pytest.raises(BadCheckpoint, match="is cut short"):
        _read(tmp_path / "x.bin")
