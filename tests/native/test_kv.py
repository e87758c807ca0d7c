"""Cells of the KV cache that are copied out and put in again."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.native import handles, lib
from localllm.native.batch import Batch
from localllm.native.handles import ContextHandle, ModelHandle
from localllm.native.kv import KV


@pytest.fixture
def opened(smollm2: Path) -> Iterator[tuple[ModelHandle, ContextHandle]]:
    with handles.open_model(smollm2) as model:
        context = handles.open_context(model, n_ctx=256, n_batch=64, n_ubatch=64, threads=1, sequences=2)
        yield model, context
        context.close()


def decode(context: ContextHandle, tokens: list[int], position: int) -> int:
    batch = Batch(64)
    batch.add(0, position, array("i", tokens), outputs=1)
    return int(lib.llama().llama_decode(context.pointer, batch.native))


@pytest.mark.slow
def test_a_state_is_put_behind_itself(opened: tuple[ModelHandle, ContextHandle]) -> None:
    model, context = opened
    kv, last = KV(model, context), lib.llama().llama_memory_seq_pos_max
    assert decode(context, list(range(100, 150)), 0) == 0
    state = kv.save(0)
    assert state is not None
    for copies in (1, 2, 3, 4):
        assert kv.append(0, 1, state, copies * 50)
        assert last(context.memory, 0) == (copies + 1) * 50 - 1
        assert last(context.memory, 1) == -1
    assert decode(context, [1], 250) == 0
    assert not kv.append(0, 1, state, 251)  # 256 cells
    assert decode(context, [1], 251) == 0
