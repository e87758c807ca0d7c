"""Why a message got no word in answer, in words; for every chat, so it knows nothing of keys, commands or screens."""

from __future__ import annotations

from localllm.tui.turn import Turn

NOT_ANSWERED = "not answered"

_REASONS = {
    "end": "the model ended its answer before the first word",
    "stop": "a stop string came before the first word",
    "length": "no word came within the limit of tokens",
    "context": "the context has no room for an answer",
    "cancelled": "stopped before the first word",
}


def why_wordless(turn: Turn) -> str:
    """Why: never nothing, whatever became of the turn."""
    reason = "cancelled" if turn.stopped else turn.stats.stop_reason if turn.stats is not None else ""
    return _REASONS.get(reason, NOT_ANSWERED)
