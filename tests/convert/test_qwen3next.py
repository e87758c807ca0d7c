"""What is particular to Qwen3-Next: layers for further tokens under names of their own, and heads that share keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from make_tiny_models import write_weights

from localllm.convert import convert, preview
from localllm.convert.config import Config
from localllm.convert.families import qwen3next
from localllm.errors import BadCheckpoint
from localllm.gguf_file import read_header
from tests.convert.golden import goldens, seeded, weight, write_checkpoint

GOLDEN = next(golden for golden in goldens() if golden.name == "qwen3-next")


def test_layers_that_predict_further_tokens_are_left_out_with_a_note(tmp_path: Path) -> None:
    folder = write_checkpoint(GOLDEN, tmp_path / "tiny")
    shapes = GOLDEN.shapes | {"mtp.fc.weight": (64, 128), "mtp.layers.0.input_layernorm.weight": (64,)}
    write_weights(folder, {name: seeded(name, shape) for name, shape in shapes.items()})
    found = preview(folder, "F32")
    assert any("predict the tokens after the next" in note for note in found.notes)
    assert len(found.tensors) == len(preview(write_checkpoint(GOLDEN, tmp_path / "without"), "F32").tensors)


def test_the_gates_of_a_state_stand_apart_from_its_queries_keys_and_values(tmp_path: Path) -> None:
    path = convert(write_checkpoint(GOLDEN, tmp_path / "tiny"), tmp_path / "x.gguf", type="F32").outfile
    source = "model.layers.0.linear_attn.in_proj_qkvz.weight"
    # Two heads of keys, each with 16 queries, 16 keys, 2 * 16 values and as many gates.
    stored = weight(source, GOLDEN.shapes[source]).reshape(2, 96, 64)
    parts = np.split(stored, [16, 32, 64], axis=1)
    expected = [part.reshape(-1, 64) for part in parts]
    np.testing.assert_array_equal(_tensor(path, "blk.0.attn_qkv.weight"), np.concatenate(expected[:3]))
    np.testing.assert_array_equal(_tensor(path, "blk.0.attn_gate.weight"), expected[3])


def test_heads_of_values_share_those_of_keys_evenly() -> None:
    config = qwen3next.FAMILY.complete(Config(GOLDEN.config | {"linear_num_value_heads": 3}))
    with pytest.raises(BadCheckpoint, match="3 heads of values cannot share 2 heads of keys"):
        qwen3next.dimensions(config)


def _tensor(path: Path, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    info = next(info for info in read_header(path).tensors if info.name == name)
    count = info.n_bytes // 4
    return np.fromfile(path, np.float32, count, offset=info.offset).reshape(info.shape[::-1])
