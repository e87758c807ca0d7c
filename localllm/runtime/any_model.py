"""What every model offers, whatever process it is in, by what it can itself: load, answer and be closed."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from localllm.runtime.aio import AsyncReply, in_thread
from localllm.runtime.options import Options
from localllm.runtime.responder import Reply
from localllm.runtime.types import Message

if TYPE_CHECKING:  # they take time to import, and a program may load long before it asks
    from typing_extensions import Self

    from localllm.runtime.responder import Responder
    from localllm.runtime.sampling import Sampling
    from localllm.runtime.session import Chat


class AnyModel(ABC):
    """A loaded model. Use it as a context manager, or `close()` it: that frees everything."""

    @classmethod
    @abstractmethod
    def load(
        cls,
        path: Path,
        options: Options | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Self:
        """Load the GGUF at `path`. Blocks until it is loaded."""

    @classmethod
    async def aload(
        cls, path: Path, options: Options | None = None, *, progress: Callable[[float], None] | None = None
    ) -> Self:
        """`load` for `await`; `progress` is called in another thread. Cancelling the task gives the load up."""
        stopped = threading.Event()
        return await in_thread(
            lambda: cls.load(path, options, progress=progress, cancelled=stopped.is_set), stopped.set, cls.close
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def chat(
        self: Responder, system: str | None = None, *, sampling: Sampling | None = None, max_tokens: int = 0
    ) -> Chat:
        """A conversation with this model; `system` is the system prompt, `max_tokens` 0 is no limit."""
        from localllm.runtime.session import Chat

        return Chat(self, system=system, sampling=sampling, max_tokens=max_tokens)

    @abstractmethod
    def close(self) -> None:
        """Free everything. Safe to call twice."""

    @abstractmethod
    def reply(self, messages: Sequence[Message], *, sampling: Sampling | None = None, max_tokens: int = 0) -> Reply:
        """Answer a conversation; see `Responder.reply`."""

    @abstractmethod
    def complete(self, prompt: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> Reply:
        """Continue `prompt` as it stands, without a chat template."""

    def astream(
        self, messages: Sequence[Message], *, sampling: Sampling | None = None, max_tokens: int = 0
    ) -> AsyncReply:
        """`reply` for `async for`."""
        return AsyncReply(self.reply(messages, sampling=sampling, max_tokens=max_tokens))

    def acomplete(self, prompt: str, *, sampling: Sampling | None = None, max_tokens: int = 0) -> AsyncReply:
        """`complete` for `async for`."""
        return AsyncReply(self.complete(prompt, sampling=sampling, max_tokens=max_tokens))
