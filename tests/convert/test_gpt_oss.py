"""gpt-oss in MXFP4: the packed dialect becomes the same GGUF as the plain one with the same numbers."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from localllm.convert import convert
from tests.convert.golden import Golden, goldens, weight, write_checkpoint

FOUR_BITS = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
"""What each code stands for; ggml has no negative zero."""

WIDTH = {80: 128, 40: 64}
"""Sizes of the golden that do not fill blocks of 32, and what takes their place."""

Tensors = dict[str, npt.NDArray[Any]]


@pytest.fixture
def golden() -> Golden:
    return next(golden for golden in goldens() if golden.name == "gpt-oss")


def _both_dialects(golden: Golden) -> tuple[Tensors, Tensors]:
    """The tensors in float32, where experts multiply from the right, and packed, where they multiply from the left."""
    generator = np.random.default_rng(3)
    plain: Tensors = {}
    packed: Tensors = {}
    for name, found in golden.shapes.items():
        shape = tuple(WIDTH.get(side, side) for side in found)
        if not name.endswith(("gate_up_proj", "down_proj")):
            plain[name] = packed[name] = weight(name, shape)
            continue
        experts, inputs, outputs = shape
        blocks = generator.integers(0, 256, (experts, outputs, inputs // 32, 16), dtype=np.uint8)
        scales = generator.integers(122, 126, (experts, outputs, inputs // 32), dtype=np.uint8)
        numbers = np.stack([FOUR_BITS[blocks & 15], FOUR_BITS[blocks >> 4]], axis=-1).reshape(*scales.shape, 32)
        scaled = numbers * np.exp2(scales.astype(np.float32) - 127)[..., None]
        plain[name] = scaled.reshape(experts, outputs, inputs).transpose(0, 2, 1)
        packed |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    return plain, packed


def _write(golden: Golden, folder: Path, tensors: Tensors, **changes: Any) -> Path:
    write_checkpoint(golden, folder, golden.config | {"intermediate_size": 64} | changes)
    header, body = {}, b""
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor).tobytes()
        dtype = "U8" if tensor.dtype == np.uint8 else "F32"
        header[name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
    return folder


def test_packed_experts_become_what_plain_ones_become(golden: Golden, tmp_path: Path) -> None:
    plain, packed = _both_dialects(golden)
    # The same folder name, because it is the model's name in the metadata.
    first = _write(golden, tmp_path / "plain" / "tiny", plain)
    second = _write(golden, tmp_path / "packed" / "tiny", packed, quantization_config={"quant_method": "mxfp4"})
    made = [convert(folder, folder.parent / "x.gguf", type="F32").outfile.read_bytes() for folder in (first, second)]
    assert made[0] == made[1]


def test_packed_experts_stay_in_their_type(golden: Golden, tmp_path: Path) -> None:
    _, packed = _both_dialects(golden)
    folder = _write(golden, tmp_path / "tiny", packed, quantization_config={"quant_method": "mxfp4"})
    found = convert(folder, tmp_path / "x.gguf", type="MXFP4_MOE").preview
    experts = [tensor.type for tensor in found.tensors if tensor.name.endswith("_exps.weight")]
    assert experts == ["MXFP4"] * 9
