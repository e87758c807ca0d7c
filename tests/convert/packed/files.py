"""Checkpoints with packed weights, written tensor by tensor."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localllm.convert import convert, verify_file
from localllm.convert.checkpoint import open_checkpoint
from localllm.gguf_file import read_header
from tests.convert.helpers import edit_json

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Stored = dict[str, tuple[str, Array]]
"""Tensors to write: the type's name in safetensors and the numbers, or their bits."""

RANGES = ((0, None), (0, 1), (1, 3), (3, 20), (-1, None))


def write_stored(folder: Path, tensors: Stored) -> None:
    """Write `model.safetensors`."""
    header: dict[str, Any] = {}
    at = 0
    for name, (dtype, numbers) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(numbers.shape), "data_offsets": [at, at + numbers.nbytes]}
        at += numbers.nbytes
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, numbers in tensors.values():
            file.write(np.ascontiguousarray(numbers).tobytes())


def read_stored(folder: Path) -> Stored:
    """The tensors of a checkpoint that is not packed."""
    with open_checkpoint(folder) as checkpoint:
        return {
            name: (tensor.dtype, checkpoint.rows(name, 0, tensor.rows).reshape(tensor.shape))
            for name, tensor in checkpoint.tensors.items()
        }


def packed_checkpoint(folder: Path, tensors: Stored, **quantization: Any) -> Path:
    """A folder with these tensors and this quantization_config, and no model."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization}))
    write_stored(folder, tensors)
    return folder


def check_rows(folder: Path, name: str, expected: Floats) -> None:
    """Any range of rows of a tensor is what it should be, to the bit, and nothing is left over."""
    with open_checkpoint(folder) as checkpoint:
        assert list(checkpoint.tensors) == [name]
        tensor = checkpoint.tensors[name]
        assert (tensor.dtype, tensor.shape) == ("F32", expected.shape)
        lines = expected.reshape(-1, expected.shape[-1])
        for start, stop in RANGES:
            first, last, _ = slice(start, stop).indices(len(lines))
            np.testing.assert_array_equal(checkpoint.rows(name, first, last), lines[first:last])


def check_files(
    packed: Path, plain: Path, pack: Callable[[str, Floats], tuple[Stored, Floats]], **quantization: Any
) -> None:
    """Of two equal checkpoints one gets its matrices packed and the other what `pack` says that they hold then: both
    give the same weights in a file."""
    held = _pack_matrices(packed, pack, **quantization)
    write_stored(plain, read_stored(plain) | {name: ("F32", numbers) for name, numbers in held.items()})
    assert_same_files(packed, plain)
    proof = verify_file(packed / "Q4_K_M.gguf", packed)
    assert proof.ok, proof.problems
    assert proof.identical == len(proof.checks)


def _pack_matrices(
    folder: Path, pack: Callable[[str, Floats], tuple[Stored, Floats]], **quantization: Any
) -> dict[str, Floats]:
    tensors: Stored = {}
    held: dict[str, Floats] = {}
    for name, (dtype, numbers) in read_stored(folder).items():
        if name.endswith("_proj.weight"):
            stored, held[name] = pack(name, numbers)
            tensors |= stored
        else:
            tensors[name] = (dtype, numbers)
    edit_json(folder / "config.json", quantization_config=quantization)
    write_stored(folder, tensors)
    return held


def assert_same_files(packed: Path, plain: Path, kinds: tuple[str, ...] = ("F32", "Q4_K_M")) -> None:
    """Both checkpoints give the same weights in a file."""
    for kind in kinds:
        made = [tensor_bytes(convert(folder, folder / f"{kind}.gguf", type=kind).outfile) for folder in (packed, plain)]
        assert made[0].keys() == made[1].keys()
        assert [name for name, tensor in made[0].items() if tensor != made[1][name]] == []


def tensor_bytes(path: Path) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of each tensor of a GGUF."""
    data = path.read_bytes()
    return {info.name: (info.type_name, data[info.offset :][: info.n_bytes]) for info in read_header(path).tensors}
