"""Has the model name a chat after its first reply, while nobody waits for it.

In a thread of its own, and given up as soon as somebody does. Knows nothing of widgets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from localllm.chat import titles
from localllm.errors import LocalLLMError
from localllm.runtime.responder import Reply, Responder
from localllm.runtime.types import Message
from localllm.tui import background


class Titler:
    """One title at a time. `named` gets the id of a chat and its title, from the thread."""

    def __init__(self, named: Callable[[str, str], object], crashed: Callable[[BaseException], object]) -> None:
        self._named = named
        self._crashed = crashed
        self._lock = threading.Lock()
        self._reply: Reply | None = None

    def begin(self, model: Responder, chat_id: str, messages: Sequence[Message]) -> None:
        """Ask `model` for a title of the conversation; an answer that is none changes nothing."""
        reply = model.reply(titles.question(messages), sampling=titles.SAMPLING, max_tokens=titles.MAX_TOKENS)
        with self._lock:
            self._reply = reply
        background.start(lambda: self._ask(reply, chat_id), "title", self._crashed)

    def _ask(self, reply: Reply, chat_id: str) -> None:
        try:
            answer = "".join(reply)
        except LocalLLMError:
            return  # a chat without such a title is as good, and what is wrong shows with the next message
        stats = reply.stats
        if stats is not None and stats.stop_reason != "cancelled" and (title := titles.title_in(answer)):
            self._named(chat_id, title)

    def stop(self) -> None:
        """Give up: the person wants the model."""
        with self._lock:
            reply, self._reply = self._reply, None
        if reply is not None:
            reply.cancel()
