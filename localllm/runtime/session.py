"""A conversation with one model, in memory: what an embedding program holds. Knows no disk and no screen."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager

from localllm.runtime.aio import pieces_of
from localllm.runtime.responder import Reply, Responder
from localllm.runtime.sampling import Sampling
from localllm.runtime.thinking import Parted, parted
from localllm.runtime.types import Message, Stats


class Chat:
    """Messages and the model that answers them. `messages` may be read at any time; `stats` are the last reply's.

    A conversation costs only what is new: earlier turns stay in the KV cache, and so does what a fork shares with the
    conversation that it comes from. One reply at a time is made; a second one meanwhile is a `RuntimeError`. What
    yields an answer does nothing before its first piece is asked for.
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
        self._turn = threading.Lock()  # held while a reply is made
        self.messages: list[Message] = [Message("system", system)] if system else []
        self.sampling = sampling or Sampling()
        self.max_tokens = max_tokens
        self.stats: Stats | None = None

    def stream(self, text: str) -> Generator[str]:
        """Say `text` and yield the answer piece by piece.

        A reply that is cancelled, or whose iteration is left early, stays in the conversation as far as it came. If it
        fails before the first piece, the conversation is as it was before.

        Raises:
            ContextFull, BadTemplate, EngineDied: on the first iteration.
        """
        yield from self._answer(lambda: [*self.messages, Message("user", text)])

    def ask(self, text: str) -> str:
        """Say `text` and return the whole answer."""
        return "".join(self.stream(text))

    def astream(self, text: str) -> AsyncIterator[str]:
        """`stream` for `async for`. Cancelling the task stops the reply, which stays as far as it came."""
        return self._awaited(self.stream(text))

    async def aask(self, text: str) -> str:
        """`ask` for `await`."""
        return "".join([piece async for piece in self.astream(text)])

    def aregenerate(self) -> AsyncIterator[str]:
        """`regenerate` for `async for`."""
        return self._awaited(self.regenerate())

    def regenerate(self) -> Generator[str]:
        """Answer the last message of the user once more; the earlier answer is forgotten.

        Raises:
            ValueError: nothing was said yet.
        """
        yield from self._answer(lambda: self.messages[: self._last_question() + 1])

    def edit(self, index: int, text: str) -> Iterator[str]:
        """Put `text` in place of the message at `index`, forget what came after it, and yield what the model says then.

        It answers a message of the user, and continues one of its own.

        Raises:
            IndexError: there is no such message.
            ValueError: it is the system prompt, which is in `messages` to be set.
        """
        yield from self._answer(lambda: self._edited(index, text))

    def undo(self) -> str:
        """Take back the last message of the user and what came after it. Returns what the user had said.

        Raises:
            ValueError: nothing was said yet.
            RuntimeError: a reply is being made.
        """
        with self._turn_taken():
            question = self._last_question()
            text = self.messages[question].content
            del self.messages[question:]
            return text

    def fork(self) -> Chat:
        """Another conversation that begins as this one. What is said in one of them is not heard in the other."""
        fork = Chat(self._responder, sampling=self.sampling, max_tokens=self.max_tokens)
        fork.messages = list(self.messages)
        fork.stats = self.stats
        return fork

    @property
    def parted(self) -> Parted:
        """The last answer in two: what the model thought, if it did, and what it said."""
        answer = next((message.content for message in reversed(self.messages) if message.role == "assistant"), "")
        return parted(answer, opened=self._responder.info.opens_thought)

    def cancel(self) -> None:
        """Stop the reply that is being made; safe from any thread."""
        reply = self._reply
        if reply is not None:
            reply.cancel()

    def _awaited(self, pieces: Generator[str]) -> AsyncIterator[str]:
        return pieces_of(pieces, self.cancel, pieces.close)

    def _edited(self, index: int, text: str) -> list[Message]:
        role = self.messages[index].role
        if role == "system":
            raise ValueError("the system prompt is no turn: set it in `messages`, and regenerate()")
        return [*self.messages[: index % len(self.messages)], Message(role, text)]

    def _last_question(self) -> int:
        for index in range(len(self.messages) - 1, -1, -1):
            if self.messages[index].role == "user":
                return index
        raise ValueError("there is nothing to answer yet")

    @contextmanager
    def _turn_taken(self) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            raise RuntimeError("this conversation is being answered: cancel() that, or fork() the conversation")
        try:
            yield
        finally:
            self._turn.release()

    def _answer(self, asked: Callable[[], list[Message]]) -> Iterator[str]:
        """Stream the answer to what `asked` gives, the conversation from now on; as before if it fails at once."""
        with self._turn_taken():
            before, messages = self.messages[:], asked()
            reply = self._reply = self._responder.reply(messages, sampling=self.sampling, max_tokens=self.max_tokens)
            self.messages[:] = messages
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
                self.messages[:] = before if failed and not reply.text else _with_answer(messages, reply.text)


def _with_answer(messages: list[Message], text: str) -> list[Message]:
    """The conversation with what was said: a message of its own, or the end of one that was continued."""
    if messages and messages[-1].role == "assistant":
        return [*messages[:-1], Message("assistant", messages[-1].content + text)]
    return [*messages, Message("assistant", text)]
