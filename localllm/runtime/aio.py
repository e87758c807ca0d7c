"""Replies for asyncio: made in a thread of their own, read by a task, and ended when the task is.

Knows no model: it hands over what blocks.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from localllm.runtime.responder import Reply
from localllm.runtime.types import Stats

if TYPE_CHECKING:  # it takes time to import, and most programs do without
    import asyncio

T = TypeVar("T")

_AGAIN_S = 0.05
"""How long until a cancel is repeated that came before there was anything to cancel."""


async def pieces_of(pieces: Iterator[str], cancel: Callable[[], None], close: Callable[[], None]) -> AsyncIterator[str]:
    """What `pieces` yields, made in another thread.

    When the task is cancelled or stops reading, `cancel` is called, and `close` in that thread once it is quiet.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="reply") as thread:
        loop = asyncio.get_running_loop()
        try:
            while (piece := await loop.run_in_executor(thread, next, pieces, None)) is not None:
                yield piece
        finally:
            closed = loop.run_in_executor(thread, close)
            await _done(closed, cancel)
            closed.result()


async def in_thread(work: Callable[[], T], cancel: Callable[[], None], discard: Callable[[T], None]) -> T:
    """The result of `work`, done in another thread.

    When the task is cancelled, `cancel` is called, `work` is awaited, and what it still made is given to `discard`.
    """
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="work") as thread:
        future = asyncio.get_running_loop().run_in_executor(thread, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            try:
                await _done(future, cancel)
            finally:
                if not future.cancelled() and future.exception() is None:
                    discard(future.result())
            raise


async def _done(future: asyncio.Future[T], cancel: Callable[[], None]) -> None:
    """Cancel until `future` is done. A task that is cancelled meanwhile, perhaps once more, hears of it only then.

    Left earlier, the end of the executor would hold up the loop and all its tasks.
    """
    import asyncio

    again: asyncio.CancelledError | None = None
    while not future.done():
        cancel()
        try:
            await asyncio.wait([future], timeout=_AGAIN_S)
        except asyncio.CancelledError as error:
            again = error
    if again is not None:
        raise again


class AsyncReply:
    """A reply to be read with `async for`. Cancelling the task that reads it ends it; so does `cancel()`."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    @property
    def text(self) -> str:
        """All that was said so far."""
        return self.reply.text

    @property
    def stats(self) -> Stats | None:
        """What it cost; None until the iteration ended."""
        return self.reply.stats

    def cancel(self) -> None:
        """Stop as soon as possible."""
        self.reply.cancel()

    def __aiter__(self) -> AsyncIterator[str]:
        return pieces_of(iter(self.reply), self.reply.cancel, self.reply.close)
