"""What replies cost, as chats keep it: read back, and of a reply that was gone on with, as of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from localllm.runtime.types import Stats


def stats_of(values: Mapping[str, Any]) -> Stats:
    """`Stats` from what was kept of them; a newer version may have kept more.

    Raises:
        TypeError: something is missing.
    """
    known = {field.name for field in fields(Stats)}
    return Stats(**{name: value for name, value in values.items() if name in known})


def joined_stats(before: Stats | None, after: Stats | None) -> Stats | None:
    """What a reply cost that was gone on with: `before` until it ended early, `after` from then on.

    It counts as one: it was begun with the prompt of the first go, which is what was reused and evaluated for it, and
    the first token came then; the tokens and the seconds of saying them are those of all, and it ended as the last did.
    """
    if before is None or after is None:
        return after
    said = before.completion_tokens + after.completion_tokens
    spoken = [(one.completion_tokens, one.decode_tps) for one in (before, after) if one.decode_tps]
    seconds = sum(count / rate for count, rate in spoken)
    return replace(
        before,
        completion_tokens=said,
        decode_tps=sum(count for count, _ in spoken) / seconds if seconds else 0.0,
        stop_reason=after.stop_reason,
        drafted_tokens=before.drafted_tokens + after.drafted_tokens,
        accepted_tokens=before.accepted_tokens + after.accepted_tokens,
        dropped_messages=after.dropped_messages,
        dropped_tokens=after.dropped_tokens,
        rewritten_tokens=before.rewritten_tokens + after.rewritten_tokens,
    )
