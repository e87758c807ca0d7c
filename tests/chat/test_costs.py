"""What a reply cost, in one go and in several."""

from __future__ import annotations

import pytest

from localllm.chat.costs import joined_stats
from localllm.runtime.types import Stats

FIRST = Stats(100, 60, 30, 0.5, 80.0, 10.0, "cancelled", drafted_tokens=4, accepted_tokens=2)
SECOND = Stats(130, 129, 40, 0.1, 0.0, 20.0, "end", drafted_tokens=1, accepted_tokens=1)


def test_a_reply_that_was_gone_on_with_costs_what_all_of_it_did() -> None:
    both = joined_stats(FIRST, SECOND)
    assert both is not None
    assert (both.prompt_tokens, both.cached_tokens, both.completion_tokens) == (100, 60, 70)
    assert both.prompt_tokens + both.completion_tokens == SECOND.prompt_tokens + SECOND.completion_tokens
    assert both.decode_tps == pytest.approx(70 / (30 / 10 + 40 / 20))
    assert (both.ttft_s, both.prefill_tps, both.stop_reason) == (0.5, 80.0, "end")
    assert (both.drafted_tokens, both.accepted_tokens) == (5, 3)


def test_a_go_without_a_word_or_a_rate_changes_no_rate() -> None:
    nothing = Stats(130, 129, 0, 0.0, 0.0, 0.0, "cancelled")
    both = joined_stats(FIRST, nothing)
    assert both is not None
    assert (both.completion_tokens, both.decode_tps) == (30, 10.0)


def test_of_a_reply_that_a_crash_cut_off_only_the_rest_is_known() -> None:
    assert joined_stats(None, SECOND) == SECOND
    assert joined_stats(FIRST, None) is None
