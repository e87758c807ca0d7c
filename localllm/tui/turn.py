"""One reply, from the person's message on disk to its `Stats`, in a thread of its own.

The thread writes to the store as the words arrive; the app takes the words from here when it draws. Knows nothing of
widgets.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from localllm.chat.conversation import Conversation, Node, final_state
from localllm.chat.costs import joined_stats
from localllm.chat.store import Store
from localllm.errors import BadStore, LocalLLMError
from localllm.runtime.repetition import repeats_itself
from localllm.runtime.responder import Reply, Responder
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Message, Progress, Stats

FLUSH_S = 0.5
"""How often a reply that is being written goes to disk."""

Stage = Literal["waiting", "prefill", "decode"]
"""`waiting`: for the model to load; `prefill`: the prompt is evaluated; `decode`: words arrive."""


@dataclass(frozen=True)
class Task:
    """What a turn is to do. `unsaved` are messages that are not on disk yet; `reply` may hold text to go on from.

    `max_tokens` 0 is no limit; `unwritten` are messages, each with its conversation, that the disk refused, or of which
    it refused the last words.
    """

    conversation: Conversation
    unsaved: tuple[Node, ...]
    reply: Node
    reply_is_saved: bool
    messages: tuple[Message, ...]
    sampling: Sampling
    max_tokens: int = 0
    unwritten: tuple[tuple[Conversation, Node], ...] = ()


def write(store: Store, conversation: Conversation, node: Node) -> None:
    """Write a message that the disk refused before, as it is by now, whether the disk has its beginning or nothing.

    Raises:
        BadStore: the disk refuses it.
    """
    if not store.update(node):
        store.add(conversation, node, late=True)


class Turn:
    """A reply in the making. Its fields may be read from any thread; they no longer change once `run` is over.

    `saved` holds the ids of the messages that it has on disk, `rewritten` those of the task's `unwritten` among them,
    `pieces` counts what the model said, `began_at` and `said_at` are the monotonic times of the first and the last of
    it; `repeats` is whether it says the same over and over by now.
    """

    def __init__(self, task: Task, store: Store) -> None:
        self.task = task
        self.stage: Stage = "waiting"
        self.model_name = task.reply.model
        self.stats: Stats | None = None
        self.error: LocalLLMError | None = None
        self.store_error: BadStore | None = None
        self.saved: set[str] = {task.reply.id} if task.reply_is_saved else set()
        self.rewritten: set[str] = set()
        self.pieces = 0
        self.began_at = self.said_at = 0.0
        self.repeats = False
        self._told = False
        """Whether it was told that there are words to take, which nobody took yet."""
        self._store = store
        self._fresh: deque[str] = deque()
        self._text = task.reply.text
        self._reply: Reply | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    @property
    def stopped(self) -> bool:
        """Whether somebody asked it to stop."""
        return self._stopped.is_set()

    @property
    def progress(self) -> Progress | None:
        """How far the prompt is evaluated."""
        return self._reply.progress if self._reply is not None else None

    @property
    def cost(self) -> Stats | None:
        """What the reply cost; of one that was to be gone on with and got no word more, what it had."""
        return self.stats if self.stats is not None or self.pieces else self.task.reply.stats

    def take(self) -> str:
        """The text that arrived since the last call."""
        self._told = False
        taken: list[str] = []
        while self._fresh:
            taken.append(self._fresh.popleft())
        return "".join(taken)

    def stop(self) -> None:
        """End the reply as soon as possible, at any stage, from any thread."""
        with self._lock:
            self._stopped.set()
            if self._reply is not None:
                self._reply.cancel()

    def run(
        self,
        wait_for_model: Callable[[threading.Event], Responder | None],
        began: Callable[[], object],
        grew: Callable[[], object],
        ended: Callable[[], object],
    ) -> None:
        """Save the message, wait for the model, make the reply; blocks.

        `wait_for_model` gives up when its event is set. `began` is called with the first piece, `grew` when there are
        more to `take` and was not since the last were taken, `ended` always, last.
        """
        try:
            for conversation, node in self.task.unwritten:
                write(self._store, conversation, node)
                self.rewritten.add(node.id)
                self.saved.add(node.id)
            for node in self.task.unsaved:
                self._store.add(self.task.conversation, node)
                self.saved.add(node.id)
            model = wait_for_model(self._stopped)
            if model is not None and not self.stopped:
                self._answer(model, began, grew)
        except LocalLLMError as error:
            self.error = error
        finally:
            ended()

    def _answer(self, model: Responder, began: Callable[[], object], grew: Callable[[], object]) -> None:
        self.model_name = model.info.name
        reply = model.reply(self.task.messages, sampling=self.task.sampling, max_tokens=self.task.max_tokens)
        with self._lock:
            self._reply = reply
            self.stage = "prefill"
            if self.stopped:
                reply.cancel()
        try:
            self._listen(reply, began, grew)
        finally:
            self.stats = joined_stats(self.task.reply.stats, reply.stats)
            if self.pieces or self.task.reply_is_saved:
                self._keep(final=True)

    def _listen(self, reply: Reply, began: Callable[[], object], grew: Callable[[], object]) -> None:
        kept = 0.0
        for piece in reply:
            self._text += piece
            self._fresh.append(piece)
            self.pieces, self.said_at = reply.pieces, time.monotonic()
            if self.stage != "decode":
                self.stage, self.began_at = "decode", self.said_at
                began()
            elif not self._told:
                self._told = True
                grew()
            if self.said_at - kept >= FLUSH_S:
                self._keep()
                self.repeats = repeats_itself(self._text)
                kept = time.monotonic()

    def _keep(self, *, final: bool = False) -> None:
        """Write the reply. A disk that fails now may work the next time, and is no reason to stop the reply."""
        state = final_state(self.cost) if final else "writing"
        node = replace(self.task.reply, text=self._text, state=state, stats=self.cost, model=self.model_name)
        try:
            if node.id not in self.saved or not self._store.update(node):
                self._store.add(self.task.conversation, node)
                self.saved.add(node.id)
            self.store_error = None
        except BadStore as error:
            self.store_error = error
