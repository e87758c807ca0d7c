"""Operations on rows, against a plain implementation on whole tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from localllm.convert.transforms import Given, Interleave, InterleaveVector, Keep, ReadRows, Transform


def _whole(tensor: npt.NDArray[Any]) -> ReadRows:
    return lambda _source, start, stop: tensor.reshape(-1, tensor.shape[-1])[start:stop]


def _plain(tensor: npt.NDArray[Any], head: int) -> npt.NDArray[Any]:
    """Row s * head/2 + i of a head goes to row 2 i + s, one row at a time."""
    turned = np.empty_like(tensor)
    for row in range(tensor.shape[0]):
        start, inside = row - row % head, row % head
        half, index = divmod(inside, head // 2)
        turned[start + 2 * index + half] = tensor[row]
    return turned


@pytest.mark.parametrize(("heads", "head"), [(1, 2), (4, 8), (9, 64), (3, 6)])
def test_interleave(heads: int, head: int) -> None:
    tensor = np.arange(heads * head * 5, dtype=np.uint16).reshape(heads * head, 5)
    transform = Interleave(head)
    np.testing.assert_array_equal(transform.rows(_whole(tensor), 0, heads * head), _plain(tensor, head))
    assert (transform.granule, transform.shape([tensor.shape])) == (head, tensor.shape)


@pytest.mark.parametrize("transform", [Keep(), Interleave(8)])
def test_any_split_at_granules_gives_the_same_rows(transform: Transform) -> None:
    tensor = np.random.default_rng(1).standard_normal((48, 7)).astype(np.float32)
    whole = transform.rows(_whole(tensor), 0, 48)
    step = 2 * transform.granule
    parts = [transform.rows(_whole(tensor), start, min(start + step, 48)) for start in range(0, 48, step)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_bias_is_turned_like_its_rows() -> None:
    bias = np.arange(24, dtype=np.uint16)
    turned = InterleaveVector(8).rows(_whole(bias), 0, 1)
    np.testing.assert_array_equal(turned[0], _plain(bias.reshape(24, 1), 8)[:, 0])


def test_given_numbers() -> None:
    given = Given((1.0, 8.0))
    assert given.shape([]) == (2,)
    np.testing.assert_array_equal(given.rows(_whole(np.empty((1, 1))), 0, 1), np.array([[1, 8]], dtype=np.float32))
