"""The interface of anything that answers: a model in this process, or one in a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from localllm.errors import EngineDied, UnsupportedModel
from localllm.runtime.options import Options
from localllm.runtime.types import Forecast, MemorySample, Message, ModelInfo, Plan, Progress, Stats

if TYPE_CHECKING:
    from localllm.runtime.sampling import Sampling


class Reply(Protocol):
    """A reply while it is made: iterate for pieces of text, then read `stats`.

    `cancel()` may be called from any thread, at any stage; iteration then ends after the piece in flight. `close()`
    ends it from the thread that iterates, and keeps what was said.
    """

    @property
    def text(self) -> str:
        """All that was said so far."""

    @property
    def stats(self) -> Stats | None:
        """What it cost; None until the iteration ended."""

    @property
    def pieces(self) -> int:
        """How many pieces of about a token each were said; an iteration may give several at once."""

    @property
    def progress(self) -> Progress | None:
        """How far the prompt is evaluated; None before that begins."""

    @property
    def sampling(self) -> Sampling:
        """How tokens are picked; once it ended, with what was left open, the seed included."""

    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    def cancel(self) -> None:
        """Stop as soon as possible; safe from any thread."""

    def close(self) -> None:
        """End the iteration now and keep what was said."""


class Responder(Protocol):
    """Anything that answers a conversation: a model in this process, or one in a child process."""

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""

    def reply(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        max_tokens: int = 0,
        anew: bool = False,
    ) -> Reply:
        """Answer `messages`. A last message by `assistant` is continued. `max_tokens` 0: until the context is full.

        With `anew` nothing that was computed before is used, so that its rates can be compared; it stays as it is.

        Raises on the first iteration: `ContextFull`, `BadTemplate`, `EngineDied`.
        """

    @property
    def plan(self) -> Plan:
        """What it took when it was loaded; its options leave nothing open."""

    def foresee(self, messages: Sequence[Message]) -> Forecast:
        """What an answer to `messages` would begin with. Blocks for milliseconds, and for a step of what runs."""

    def what_if(self, options: Options) -> Plan:
        """The plan for this model with other options, as memory is now, with this model still in it. Blocks.

        Raises `DoesNotFit` and what a load could raise.
        """

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`. Safe to call from another thread; waits for a step of what runs."""

    def memory(self) -> MemorySample:
        """Memory now. Safe to call from another thread while a reply is made."""

    def context_used(self) -> int:
        """Tokens in the KV cache now."""

    def when_lost(self, tell: Callable[[EngineDied], object]) -> None:
        """Have `tell` called, from another thread, as soon as what answers has ended by itself: killed, or aborted."""

    def close(self) -> None:
        """Free everything. Safe to call twice; cancels a reply that is being made."""


def only_reads(info: ModelInfo) -> UnsupportedModel:
    """The error to raise where such a model shall write."""
    return UnsupportedModel(
        f"{info.title} does not write text: it is an embedding model.",
        hint="Use embed() with it, or choose a model that was trained to chat or to continue text.",
    )
