"""What is put into a batch is what llama.cpp finds there."""

from __future__ import annotations

from array import array

import pytest

from localllm.native.batch import Batch


def _read(batch: Batch) -> list[tuple[int, int, list[int], int]]:
    """(token, position, sequences, whether its logits are computed) of each token, through the pointers."""
    native = batch.native
    return [
        (
            native.token[index],
            native.pos[index],
            native.seq_id[index][: native.n_seq_id[index]],
            native.logits[index],
        )
        for index in range(native.n_tokens)
    ]


def test_tokens_of_several_sequences_stand_behind_each_other() -> None:
    batch = Batch(8)
    assert batch.add(2, 10, array("i", [7, 8, 9]), outputs=2) == 1
    assert batch.add(5, 0, array("i", [4]), outputs=0) == 4
    assert batch.add(1, 3, array("i", [6, 6]), outputs=1) == 5
    assert len(batch) == 6
    assert _read(batch) == [
        (7, 10, [2], 0),
        (8, 11, [2], 1),
        (9, 12, [2], 1),
        (4, 0, [5], 0),
        (6, 3, [1], 0),
        (6, 4, [1], 1),
    ]


def test_what_was_taken_out_leaves_no_trace() -> None:
    batch = Batch(8)
    batch.add(3, 40, array("i", [1, 2, 3]), outputs=3)
    batch.hold(1, 20, 9)
    assert _read(batch) == [(9, 20, [1], 1)]
    batch.clear()
    assert len(batch) == 0
    assert _read(batch) == []
    batch.add(0, 0, array("i", [5, 6]), outputs=1)
    assert _read(batch) == [(5, 0, [0], 0), (6, 1, [0], 1)]


def test_a_batch_that_is_full_takes_no_more() -> None:
    batch = Batch(4)
    batch.add(0, 0, array("i", [1, 2, 3]), outputs=0)
    with pytest.raises(ValueError, match="room for 4 tokens, not for 5"):
        batch.add(0, 3, array("i", [4, 5]), outputs=1)
    assert [token for token, *_ in _read(batch)] == [1, 2, 3]
