"""A conversation with one model, in memory: what an embedding program holds. Knows no disk and no screen."""

from __future__ import annotations

from collections.abc import Iterator

from localllm.runtime.types import Message, Reply, Responder, Sampling, Stats


class Chat:
    """Messages and the model that answers them. `messages` may be read at any time; `stats` are the last reply's.

    A conversation costs only what is new: earlier turns stay in the KV cache.
    """

    def __init__(
        self,
        responder: Responder,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        max_tokens: int = 0,
    ) -> None:
        self._responder = responder
        self._reply: Reply | None = None
        self.messages: list[Message] = [Message("system", system)] if system else []
        self.sampling = sampling or Sampling()
        self.max_tokens = max_tokens
        self.stats: Stats | None = None

    def stream(self, text: str) -> Iterator[str]:
        """Say `text` and yield the answer piece by piece.

        A reply that is cancelled, or whose iteration is left early, stays in the conversation as far as it came. If it
        fails before the first piece, the conversation is as it was before.

        Raises:
            ContextFull, BadTemplate, EngineDied: on the first iteration.
        """
        before = list(self.messages)
        self.messages.append(Message("user", text))
        yield from self._answer(before)

    def ask(self, text: str) -> str:
        """Say `text` and return the whole answer."""
        return "".join(self.stream(text))

    def regenerate(self) -> Iterator[str]:
        """Answer the last message of the user once more; the earlier answer is forgotten.

        Raises:
            ValueError: nothing was said yet.
        """
        if not any(message.role == "user" for message in self.messages):
            raise ValueError("there is nothing to answer yet")
        before = list(self.messages)
        if self.messages[-1].role == "assistant":
            self.messages.pop()
        yield from self._answer(before)

    def cancel(self) -> None:
        """Stop the reply that is being made; safe from any thread."""
        reply = self._reply
        if reply is not None:
            reply.cancel()

    def _answer(self, before: list[Message]) -> Iterator[str]:
        """Stream the answer to `messages`; if it fails without a word, `messages` are as they were `before`."""
        reply = self._reply = self._responder.reply(self.messages, sampling=self.sampling, max_tokens=self.max_tokens)
        failed = False
        try:
            yield from reply
        except Exception:
            failed = True
            raise
        finally:
            reply.close()
            self._reply = None
            self.stats = reply.stats or self.stats
            if failed and not reply.text:
                self.messages[:] = before
            else:
                self.messages.append(Message("assistant", reply.text))
