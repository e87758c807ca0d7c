"""Room in the context: which turns of a conversation could go, and what a larger context would cost.

Pure arithmetic; knows nothing of widgets or of who makes the plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from localllm.chat.conversation import Conversation, Given
from localllm.chat.cuts import LeftOut
from localllm.runtime.options import Options
from localllm.runtime.types import Forecast, Plan

ENOUGH = 0.5
"""This share of the context is free after the oldest turns went: fewer, and the next turn but one is in need again."""

FULL_SHARE = 4
"""A context is as good as full when less than one part in so many of it is free."""

SUMMARY_TOKENS, SUMMARY_SHARE = 256, 8
"""A summary has at most so many tokens, and takes at most one part in so many of the context."""

A_WORD = 4
"""An answer that has room for fewer tokens may end before its first word."""

GROWTHS = 3
"""At most so many larger contexts are offered."""


@dataclass(frozen=True)
class Turn:
    """A message of the person and what answers it: the id it begins with, that of what came before it, its words on one
    line, and about how many tokens it takes."""

    begin: str
    before: str | None
    title: str
    tokens: int


@dataclass(frozen=True)
class Crowding:
    """A conversation and its context of `n_ctx` tokens, of which a prompt takes `needed`. The model was trained for
    `trained`.

    `turns` are those that are sent, oldest first; the last is the one to be answered, if it `waits` for an answer.
    `fixed` tokens always stay. `is_stuck` says whether the full context is why the last turn has no whole answer: only
    then does room that is made lead to one. `left_out` is what can be sent again, None where all is sent; with it the
    prompt takes `needed_again`.
    """

    n_ctx: int
    needed: int
    fixed: int
    turns: tuple[Turn, ...]
    trained: int
    waits: bool
    is_stuck: bool = False
    left_out: LeftOut | None = None
    needed_again: int = 0

    @property
    def spare(self) -> int:
        """How many turns could go: all but the last."""
        return len(self.turns) - 1

    @property
    def is_full(self) -> bool:
        """Whether little room is left for an answer, or none."""
        return self.n_ctx - self.needed < self.n_ctx // FULL_SHARE

    def left(self, count: int) -> int:
        """Tokens of the prompt without the oldest `count` turns."""
        return self.needed - sum(turn.tokens for turn in self.turns[:count])

    @property
    def is_hopeless(self) -> bool:
        """Whether the last turn is more than the context holds, so that it does not matter which others go."""
        return not self.fits_without(self.turns[: self.spare])

    def fits_without(self, gone: Sequence[Turn]) -> bool:
        """Whether the prompt without these turns leaves room for a token of an answer."""
        return self.needed - sum(turn.tokens for turn in gone) < self.n_ctx

    def can_summarise(self, count: int) -> bool:
        """Whether the oldest `count` turns fit the context beside a summary and what asks for it."""
        return (
            self.fixed + sum(turn.tokens for turn in self.turns[:count]) + 2 * summary_tokens(self.n_ctx) <= self.n_ctx
        )

    def advised(self) -> int:
        """How many of the oldest turns to let go, so that a good part of the context is free."""
        fitting = (count for count in range(1, self.spare) if self.left(count) <= self.n_ctx * ENOUGH)
        return next(fitting, self.spare)


@dataclass(frozen=True)
class Growth:
    """A larger context: the plan with it, and how many bytes more that takes than what is loaded."""

    plan: Plan
    more: int
    fits: bool


def crowding(
    conversation: Conversation, given: Sequence[Given], forecast: Forecast, *, n_ctx: int, trained: int
) -> Crowding:
    """How the messages `given` of the conversation fill a context. `forecast` is of the same messages."""
    begins = [number for number, one in enumerate(given) if one.message.role == "user" and one.nodes]
    ends = [*forecast.ends[:-1], forecast.prompt_tokens]
    turns = []
    for begin, after in zip(begins, [*begins[1:], len(given)], strict=True):
        before = ends[begin - 1] if begin else 0
        node = conversation.nodes[given[begin].nodes[0]]
        turns.append(Turn(node.id, node.parent, " ".join(node.text.split()), max(0, ends[after - 1] - before)))
    fixed = forecast.prompt_tokens - sum(turn.tokens for turn in turns)
    needed, waits = forecast.prompt_tokens, given[-1].message.role == "user"
    stuck = needed + A_WORD > n_ctx if waits else was_cut_short(conversation)
    return Crowding(n_ctx, needed, fixed, tuple(turns), trained, waits, stuck)


def was_cut_short(conversation: Conversation) -> bool:
    """Whether the last reply ended because the context was full, and can go on."""
    reply = conversation.unfinished()
    return reply is not None and reply.stats is not None and reply.stats.stop_reason == "context"


def summary_tokens(n_ctx: int) -> int:
    """The most tokens of a summary in a context of so many."""
    return min(SUMMARY_TOKENS, n_ctx // SUMMARY_SHARE)


def larger_contexts(needed: int, n_ctx: int, trained: int) -> list[int]:
    """Contexts worth offering for a prompt of `needed` tokens: doubled, up to what the model was trained with."""
    sizes: list[int] = []
    size = n_ctx
    while size < trained and len(sizes) < GROWTHS:
        size = min(2 * size, trained)
        if size > needed + n_ctx // 8:
            sizes.append(size)
    return sizes


def with_context(loaded: Plan, n_ctx: int) -> Options:
    """The options of what is loaded, all as they were chosen but for the context."""
    return replace(loaded.options, n_ctx=n_ctx)


def growth(loaded: Plan, plan: Plan) -> Growth:
    """What `plan` takes instead of what is loaded."""
    return Growth(plan, plan.total - loaded.total, plan.fits_instead_of(loaded))
