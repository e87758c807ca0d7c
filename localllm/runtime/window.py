"""What of a conversation is sent when all of it is more than the context holds. Pure arithmetic on counts and tokens.

What is left out follows from the conversation alone, never from an earlier decision: so the next turn leaves out the
same, and finds the rest in the KV cache. Half of what can go goes at once, or every later turn would have to be
computed again.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from localllm.runtime.types import Message

AROUND_A_MESSAGE = 8
"""Tokens that a chat template puts around a message, roughly."""


def turns(messages: Sequence[Message]) -> list[int]:
    """Where turns begin: a turn is a message of the user and what answers it."""
    return [number for number, message in enumerate(messages) if message.role == "user"]


def pinned(messages: Sequence[Message]) -> list[Message]:
    """What is never left out: the messages of the system before the first turn."""
    first = next(iter(turns(messages)), len(messages))
    return [message for message in messages[:first] if message.role == "system"]


def first_turn(sizes: Sequence[tuple[int, int]], fixed: int, room: int, n_ctx: int) -> int:
    """The number of the turn with which a conversation begins so that it fits.

    `sizes` are the tokens of what was asked in each turn, and of what was answered; `fixed` those of what is never left
    out. Turns are left out, half of what there is at once, where a question would leave less than `n_ctx - room` for
    its answer, or an answer filled the context of `n_ctx`. The last turn always stays.
    """
    first, used = 0, fixed
    for number, turn in enumerate(sizes):
        for size, limit in zip(turn, (room, n_ctx), strict=True):
            used += size
            if used > limit:
                while first < number and used > fixed + (room - fixed) // 2:
                    used -= sum(sizes[first])
                    first += 1
    return first


def step(keep: int, n_ctx: int) -> int:
    """How many tokens a shift drops at once, of a context of `n_ctx` whose first `keep` tokens stay."""
    return max(1, (n_ctx - keep) // 2)


def shifted(tokens: array[int], keep: int, n_ctx: int) -> array[int]:
    """The tokens without those behind the first `keep` that have to go for all to be fewer than `n_ctx`."""
    keep = min(keep, n_ctx // 2)
    over, at_once = len(tokens) - n_ctx + 1, step(keep, n_ctx)
    if over <= 0:
        return tokens
    gone = -(-over // at_once) * at_once
    return tokens[:keep] + tokens[keep + gone :]
