"""Operations on rows, against a plain implementation on whole tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from localllm.convert.transforms import (
    Compute,
    EveryOtherColumn,
    EveryOtherRow,
    Flatten,
    Given,
    Interleave,
    Join,
    Keep,
    ReadRows,
    Segment,
    Transform,
    Transpose,
    Vectors,
    minus_exponential,
    part,
    plus_one,
    regroup,
    rows_and_columns,
    stack,
)


def _read(*tensors: npt.NDArray[Any]) -> ReadRows:
    return lambda source, start, stop: tensors[source].reshape(rows_and_columns(tensors[source].shape))[start:stop]


def _whole(transform: Transform, *tensors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    shape = transform.shape([tensor.shape for tensor in tensors])
    return transform.rows(_read(*tensors), 0, rows_and_columns(shape)[0]).reshape(shape)


def _numbers(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


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
    np.testing.assert_array_equal(_whole(Interleave(head), tensor), _plain(tensor, head))
    assert Interleave(head).granule == head


def test_regroup_brings_the_parts_of_all_groups_together() -> None:
    groups, queries, keys = 3, 4, 2
    stored = np.arange(groups * (queries + 2 * keys) * 5, dtype=np.uint16).reshape(groups, queries + 2 * keys, 5)
    parts = (stored[:, :queries], stored[:, queries : queries + keys], stored[:, queries + keys :])
    transform, flat = regroup(groups, (queries, keys, keys)), stored.reshape(-1, 5)
    expected = np.concatenate([part.reshape(-1, 5) for part in parts])
    np.testing.assert_array_equal(_whole(transform, flat), expected)
    np.testing.assert_array_equal(_whole(transform, flat[:, 0]), expected[:, 0])
    np.testing.assert_array_equal(transform.rows(_read(flat), 3, 17), expected[3:17])


def test_vectors_become_the_rows_of_a_matrix() -> None:
    vectors = [_numbers(7, seed=seed) for seed in range(4)]
    transform = Vectors((4, 7))
    np.testing.assert_array_equal(_whole(transform, *vectors), np.stack(vectors))
    np.testing.assert_array_equal(transform.rows(_read(*vectors), 1, 3), np.stack(vectors[1:3]))


def test_rates_of_decay() -> None:
    numbers = _numbers(3, 5)
    np.testing.assert_allclose(_whole(Compute(minus_exponential), numbers), -np.exp(numbers.astype(np.float64)), 1e-6)


def test_a_bias_is_turned_like_its_rows() -> None:
    bias = np.arange(24, dtype=np.uint16)
    np.testing.assert_array_equal(_whole(Interleave(8), bias), _plain(bias.reshape(24, 1), 8)[:, 0])


SWAPPED = Join((Segment(0, 12, 24), Segment(1, 0, 24), Segment(0, 0, 12)), (48, 7))


@pytest.mark.parametrize(
    ("transform", "shapes"),
    [
        pytest.param(Keep(), [(48, 7)], id="keep"),
        pytest.param(Keep((16, 3, 7)), [(48, 7)], id="keep three dimensions"),
        pytest.param(Flatten(7), [(48, 7)], id="flatten"),
        pytest.param(EveryOtherColumn(1), [(6, 8, 10)], id="columns"),
        pytest.param(EveryOtherRow(1), [(6, 8, 10)], id="rows"),
        pytest.param(Transpose(EveryOtherColumn(0), (6, 8, 5)), [(6, 8, 10)], id="transposed columns"),
        pytest.param(Interleave(8), [(48, 7)], id="interleave"),
        pytest.param(SWAPPED, [(24, 7), (24, 7)], id="swapped"),
        pytest.param(stack(4, (12, 7)), [(12, 7)] * 4, id="stack"),
        pytest.param(Transpose(Keep(), (6, 7, 8)), [(6, 7, 8)], id="transpose"),
        pytest.param(Transpose(SWAPPED, (6, 8, 7)), [(24, 7), (24, 7)], id="transposed swapped"),
        pytest.param(Compute(plus_one, stack(2, (24, 1))), [(24, 1)] * 2, id="compute"),
        pytest.param(Given(tuple(range(48))), [], id="given"),
    ],
)
def test_any_split_at_granules_gives_the_same_rows(transform: Transform, shapes: list[tuple[int, ...]]) -> None:
    read = _read(*(_numbers(*shape, seed=index) for index, shape in enumerate(shapes)))
    count = rows_and_columns(transform.shape(shapes))[0]
    whole = transform.rows(read, 0, count)
    for granules in (1, 2, 5):
        step = granules * transform.granule
        parts = [transform.rows(read, start, min(start + step, count)) for start in range(0, count, step)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_join_puts_segments_behind_each_other() -> None:
    first, second = _numbers(24, 7), _numbers(24, 7, seed=2)
    np.testing.assert_array_equal(_whole(SWAPPED, first, second), np.concatenate([first[12:], second, first[:12]]))
    np.testing.assert_array_equal(_whole(part(3, 9, 7), first), first[3:9])
    np.testing.assert_array_equal(_whole(part(3, 9, 0), first[:, 0]), first[3:9, 0])


def test_stack_adds_a_dimension() -> None:
    experts = [_numbers(4, 3, seed=seed) for seed in range(5)]
    np.testing.assert_array_equal(_whole(stack(5, (4, 3)), *experts), np.stack(experts))


def test_transpose_swaps_the_last_two_dimensions() -> None:
    tensor = _numbers(3, 4, 5)
    np.testing.assert_array_equal(_whole(Transpose(Keep(), tensor.shape), tensor), tensor.transpose(0, 2, 1))


def test_compute_widens_what_is_stored_in_16_bits() -> None:
    numbers = np.array([[1.0, -2.5], [0.15625, 3e38]], dtype=np.float32)
    bits = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    kept = (bits.astype(np.uint32) << 16).view(np.float32)
    found = _whole(Compute(plus_one), bits)
    assert Compute(plus_one).dtype(["BF16"]) == "F32"
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, kept + 1)
    halves = numbers[:1].astype(np.float16)
    np.testing.assert_array_equal(_whole(Compute(plus_one), halves), halves.astype(np.float32) + 1)


def test_given_numbers() -> None:
    np.testing.assert_array_equal(_whole(Given((1.0, 8.0))), np.array([1, 8], dtype=np.float32))


def test_a_matrix_becomes_a_vector_row_behind_row() -> None:
    tensor = _numbers(3, 5)
    np.testing.assert_array_equal(_whole(Flatten(5), tensor), tensor.ravel())


@pytest.mark.parametrize("first", [0, 1])
def test_every_other_column_or_row_is_a_matrix(first: int) -> None:
    tensor = _numbers(3, 4, 6)
    np.testing.assert_array_equal(_whole(EveryOtherColumn(first), tensor), tensor[:, :, first::2])
    turned = Transpose(EveryOtherColumn(first), (3, 4, 3))
    np.testing.assert_array_equal(_whole(turned, tensor), tensor[:, :, first::2].transpose(0, 2, 1))
    np.testing.assert_array_equal(_whole(EveryOtherRow(first), tensor), tensor[:, first::2])
