"""Asks the model ahead of a reply: what of the conversation is in its cache, and what the next message will cost.

In a thread of its own, which answers the latest question when nobody has asked for a moment. Knows nothing of widgets.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localllm.chat.conversation import Given
from localllm.errors import LocalLLMError
from localllm.runtime.responder import Responder
from localllm.runtime.types import Forecast, Message
from localllm.tui import background

PAUSE_S = 0.25
"""The person has stopped typing when so long no key came."""

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
    """Calls `told` with each question that is answered, from its thread."""

    def __init__(
        self, model: Callable[[], Responder | None], told: Callable[[Question, Forecast, int], object]
    ) -> None:
        self._model = model
        self._told = told
        self._asked = threading.Event()
        self._question: Question | None = None
        self._closed = False

    def start(self, crashed: Callable[[BaseException], object]) -> None:
        """Begin; a mistake of ours goes to `crashed`."""
        background.start(self._work, "look ahead", crashed)

    def ask(self, question: Question) -> None:
        """Answer this instead of what was asked before."""
        self._question = question
        self._asked.set()

    def close(self) -> None:
        """End."""
        self._closed = True
        self._asked.set()

    def _work(self) -> None:
        while self._asked.wait() and not self._closed:
            while self._asked.is_set() and not self._closed:
                self._asked.clear()
                time.sleep(PAUSE_S)
            self._answer()

    def _answer(self) -> None:
        question, model = self._question, self._model()
        if question is None or model is None or self._closed:
            return
        messages = question.messages
        if not any(message.role != "system" for message in messages):
            return
        try:
            forecast = model.foresee(messages)
        except LocalLLMError:
            # Whoever sends the message is told the same.
            return
        if not self._closed and not self._asked.is_set():
            self._told(question, forecast, model.plan.n_ctx)


def cached(given: Sequence[Given], forecast: Forecast) -> frozenset[str]:
    """The messages of the tree that are wholly in the cache."""
    return frozenset(
        node
        for one, end in zip(given, forecast.ends, strict=False)
        if 0 < end <= forecast.cached_tokens + UNEVALUATED
        for node in one.nodes
    )
