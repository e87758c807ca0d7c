"""Asks the model ahead of a reply: what of the conversation is in its cache, and what the next message will cost.

Knows nothing of widgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localllm.chat.conversation import Given
from localllm.errors import LocalLLMError
from localllm.runtime.responder import Responder
from localllm.runtime.types import Forecast, Message
from localllm.tui.latest import Latest

UNEVALUATED = 2
"""Tokens at the end of an answer that were sampled and not evaluated."""


@dataclass(frozen=True)
class Question:
    """What the model is given now, and what the person has written so far, which may be nothing."""

    given: tuple[Given, ...]
    draft: str = ""

    @property
    def messages(self) -> list[Message]:
        """What would be sent with the draft."""
        said = [one.message for one in self.given]
        if not self.draft:
            return said
        if said and said[-1].role == "user":
            return [*said[:-1], Message("user", f"{said[-1].content}\n\n{self.draft}")]
        return [*said, Message("user", self.draft)]


class Outlook:
    """Calls `told` with each question that is answered, its answer and the context, from a thread of its own."""

    def __init__(
        self, model: Callable[[], Responder | None], told: Callable[[Question, Forecast, int], object]
    ) -> None:
        self._model = model
        self._told = told
        self._latest = Latest(self._answer, "look ahead")
        self.start, self.ask, self.close = self._latest.start, self._latest.ask, self._latest.close

    def _answer(self, question: Question) -> None:
        model, messages = self._model(), question.messages
        if model is None or not any(message.role != "system" for message in messages):
            return
        try:
            forecast = model.foresee(messages)
        except LocalLLMError:
            # Whoever sends the message is told the same.
            return
        if not self._latest.is_old():
            self._told(question, forecast, model.plan.n_ctx)


def cached(given: Sequence[Given], forecast: Forecast) -> frozenset[str]:
    """The messages of the tree that are wholly in the cache."""
    return frozenset(
        node
        for one, end in zip(given, forecast.ends, strict=False)
        if 0 < end <= forecast.cached_tokens + UNEVALUATED
        for node in one.nodes
    )


def tokens_of(given: Sequence[Given], forecast: Forecast) -> int:
    """Tokens of the messages that are given; 0 for a system prompt alone.

    A draft that is joined with the last of them counts, too: the model has one message of both. A question that waits
    for its answer counts with what a chat template puts behind it, as it does where it is refused.
    """
    if not any(one.nodes for one in given):
        return 0
    if given[-1].message.role == "user":
        return forecast.prompt_tokens
    return max(forecast.ends[: len(given)], default=0)
