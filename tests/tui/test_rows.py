"""The arithmetic of rows, against lists of rows that are counted out."""

from __future__ import annotations

import random

import pytest

from localllm.tui.rows import Rows


def counted(heights: list[int]) -> list[int]:
    return [index for index, height in enumerate(heights) for _ in range(height)]


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_where_counting_finds_them(seed: int) -> None:
    chance = random.Random(seed)
    heights = [chance.randint(1, 9) for _ in range(chance.randint(1, 30))]
    rows = Rows()
    rows.reset(heights)
    for _ in range(20):
        index, height = chance.randrange(len(heights)), chance.randint(1, 9)
        assert rows.resize(index, height) == height - heights[index]
        heights[index] = height
        added = chance.randint(1, 9)
        heights.append(added)
        rows.append(added)
        owners = counted(heights)
        assert rows.total == len(owners)
        assert [rows.at(row) for row in range(rows.total)] == owners
        assert [rows.height(index) for index in range(len(rows))] == heights
        assert [rows.top(index) for index in range(len(rows))] == [owners.index(i) for i in range(len(heights))]


def test_rows_outside_belong_to_the_nearest_entry() -> None:
    rows = Rows()
    rows.reset([2, 3])
    assert rows.at(-5) == 0
    assert rows.at(99) == 1
    with pytest.raises(IndexError):
        Rows().at(0)
