"""What a conversion will read is known before, also where the weights are packed in several tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localllm.convert import prepare
from localllm.convert.checkpoint import open_checkpoint
from localllm.convert.plan import PlannedTensor
from localllm.convert.reading_order import reading_order
from localllm.convert.tensor import SourceTensor
from localllm.convert.transforms import Keep
from tests.convert.helpers import MakeTiny
from tests.convert.packed.files import Stored, packed_checkpoint


def _zeros(**shapes: tuple[str, tuple[int, ...], Any]) -> Stored:
    return {f"a.{name}": (dtype, np.zeros(shape, dtype=kind)) for name, (dtype, shape, kind) in shapes.items()}


PACKED: dict[str, tuple[Stored, dict[str, Any]]] = {
    "gptq": (
        _zeros(
            qweight=("I32", (8, 32), np.int32),
            qzeros=("I32", (4, 4), np.int32),
            scales=("F16", (4, 32), np.float16),
            g_idx=("I32", (64,), np.int32),
        ),
        {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": True},
    ),
    "mxfp4": (
        _zeros(x_blocks=("U8", (2, 4, 3, 16), np.uint8), x_scales=("U8", (2, 4, 3), np.uint8)),
        {"quant_method": "mxfp4"},
    ),
    "fp8": (
        _zeros(weight=("F8_E4M3", (128, 128), np.uint8), weight_scale_inv=("F32", (1, 1), np.float32)),
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
    ),
}


def _bytes(tensor: SourceTensor) -> tuple[str, int, int]:
    return tensor.file, tensor.offset, tensor.rows * tensor.row_bytes


@pytest.mark.parametrize("method", PACKED)
def test_every_part_of_a_packed_tensor_is_read(tmp_path: Path, method: str) -> None:
    tensors, settings = PACKED[method]
    with open_checkpoint(packed_checkpoint(tmp_path, tensors, **settings)) as checkpoint:
        (tensor,) = checkpoint.tensors.values()
        planned = PlannedTensor("a.weight", tensor.shape, tensor.dtype, (tensor.name,), Keep())
        found = reading_order(checkpoint, [planned, planned])
        assert sorted(found) == sorted(map(_bytes, checkpoint.stored.values()))


def test_plain_tensors_are_read_once_in_the_order_of_the_file(tiny: MakeTiny) -> None:
    with prepare(tiny(shards=2), "F16") as prepared:
        tensors, source = prepared._choices.tensors, prepared._source
        found = reading_order(source, tensors)
        assert found == [_bytes(source.stored[tensor.sources[0]]) for tensor in tensors]
        assert len(found) == len(source.stored)
