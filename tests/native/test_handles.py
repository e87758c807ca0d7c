"""Parameters of contexts that are not what was asked for, and why."""

from __future__ import annotations

import pytest

from localllm.native.handles import aligned_outputs


@pytest.mark.parametrize("count", range(1, 70))
def test_the_list_of_outputs_ends_where_a_cache_line_does(count: int) -> None:
    found = aligned_outputs(count)
    padded = -(-4 * found // 32) * 32
    assert padded % 64 == 0
    assert count <= found <= count + 8
    assert found == count or -(-4 * (found - 1) // 32) * 32 % 64
