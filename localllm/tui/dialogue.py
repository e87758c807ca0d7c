"""The conversation that is open and what a person does with it: send, stop, answer again, go on.

Holds the rules of who may do what and when. Knows nothing of widgets; all of it runs on the app's thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from localllm.chat.conversation import Conversation, Node
from localllm.chat.settings import described, max_tokens_of, sampling_of
from localllm.chat.store import Store
from localllm.errors import BadSettings, BadStore
from localllm.runtime.responder import Responder
from localllm.runtime.sampling import Sampling
from localllm.tui import background
from localllm.tui.turn import Stage, Task, Turn, write


class Dialogue:
    """One conversation at a time, and at most one reply in the making, which goes on while another one is open.

    `began`, `grew` and `ended` are called from the thread of the reply, as `Turn.run` says. `sampling` is how tokens
    are picked and `max_tokens` the limit of each reply, 0 for none, where a chat has no settings of its own.
    """

    def __init__(
        self,
        store: Store,
        sampling: Sampling,
        wait_for_model: Callable[[threading.Event], Responder | None],
        *,
        began: Callable[[Turn], object],
        ended: Callable[[Turn], object],
        grew: Callable[[Turn], object] = lambda _: None,
        crashed: Callable[[BaseException], object],
        system: str = "",
        max_tokens: int = 0,
    ) -> None:
        self.conversation = Conversation(system=system)
        self.turn: Turn | None = None
        self.sampling = sampling
        self.max_tokens = max_tokens
        self._store = store
        self._wait_for_model = wait_for_model
        self._began = began
        self._ended = ended
        self._grew = grew
        self._crashed = crashed
        self._system = system
        self._saved: set[str] = set()
        self._unwritten: dict[str, Conversation] = {}
        """The conversations of the messages, by id, that the disk refused, or of which it refused the last words."""
        self._latest: tuple[Conversation, str] | None = None
        """The conversation of the reply that was begun last, and its id."""
        self._shown_before: str | None = None
        self._thread: threading.Thread | None = None

    @property
    def stage(self) -> Stage | Literal["idle"]:
        """Where the reply is."""
        return "idle" if self.turn is None else self.turn.stage

    @property
    def grows(self) -> bool:
        """Whether the reply that is being made is one of the open conversation."""
        return self.grows_in(self.conversation)

    def grows_in(self, conversation: Conversation) -> bool:
        """Whether the reply that is being made is one of this conversation."""
        return self.turn is not None and self.turn.task.conversation is conversation

    def open(self, conversation: Conversation | None) -> None:
        """Turn to another conversation, or to a new one."""
        opened = conversation or Conversation(system=self._system)
        self.conversation = self._held(opened) or opened
        if self.conversation is opened:
            self._saved |= opened.nodes.keys()

    def _held(self, read: Conversation) -> Conversation | None:
        """The conversation that was `read` from the disk, if more of it is here: a reply that is being made, or that
        was when it was read, or a message that the disk refused."""
        owed = [(chat, message) for message, chat in self._unwritten.items()]
        for chat, message in [self._latest, *owed] if self._latest is not None else owed:
            if chat.id == read.id and (self.grows_in(chat) or chat.nodes.get(message) != read.nodes.get(message)):
                return chat
        return None

    def send(self, text: str) -> None:
        """Add the person's message and have it answered. Only while no reply is made."""
        self._answer(self.conversation.add_user(text))

    def ask_instead(self, question_id: str, text: str) -> None:
        """Put `text` beside a message of the person, and have it answered. Only while no reply is made."""
        self._answer(self.conversation.add_version(question_id, text))

    def _answer(self, question: Node) -> None:
        self._begin(self.conversation.add_reply(question.id), shown_before=question.id)

    def can_answer_again(self) -> bool:
        """Whether there is a message to answer, and no reply is made."""
        return self.turn is None and self.conversation.question() is not None

    def answer_again(self, question_id: str | None = None) -> None:
        """Make another reply to a message of the person, the last one if none is named, beside those that are there."""
        question = self.conversation.question() if question_id is None else self.conversation.nodes[question_id]
        assert question is not None
        before = self.conversation.leaf
        self._begin(self.conversation.add_reply(question.id), shown_before=before)

    def can_go_on(self) -> bool:
        """Whether the last reply ended early, and no reply is made."""
        return self.turn is None and self.conversation.unfinished() is not None

    def go_on(self) -> None:
        """Go on with the last reply, which ended early."""
        reply = self.conversation.unfinished()
        assert reply is not None
        self._begin(self.conversation.extend(reply.id, ""), shown_before=reply.id)

    def _begin(self, reply: Node, *, shown_before: str | None) -> None:
        assert self.turn is None
        path = self.conversation.path()
        (sampling, max_tokens), error = self._manner()
        task = Task(
            self.conversation,
            tuple(node for node in path[:-1] if node.id not in self._saved),
            reply,
            reply.id in self._saved,
            tuple(self.conversation.messages(until=reply.id if reply.text else reply.parent)),
            sampling,
            max_tokens,
            tuple((chat, chat.nodes[message]) for message, chat in self._unwritten.items()),
        )
        self._shown_before = shown_before
        self._latest = self.conversation, reply.id
        self.turn = turn = Turn(task, self._store)
        turn.error = error
        self._thread = background.start(
            lambda: turn.run(
                self._wait_for_model,
                lambda: self._began(turn),
                lambda: self._grew(turn),
                lambda: self._ended(turn),
            ),
            "reply",
            self._crashed,
        )

    def _manner(self) -> tuple[tuple[Sampling, int], BadSettings | None]:
        """How replies are made; where the chat's own settings are wrong, as everywhere else, and why."""
        try:
            return self._own_manner(), None
        except BadSettings as error:
            return (self.sampling, self.max_tokens), error

    def _own_manner(self) -> tuple[Sampling, int]:
        settings = self.conversation.settings
        return sampling_of(settings, self.sampling), max_tokens_of(settings, self.max_tokens)

    def described(self) -> str:
        """How replies are made in this chat, as far as it is not left to the model; empty where all of it is.

        Raises:
            BadSettings: the chat's own settings are wrong.
        """
        return described(*self._own_manner())

    def stop(self) -> bool:
        """Stop the reply at whatever stage it is. Whether there was one."""
        if self.turn is None:
            return False
        self.turn.stop()
        return True

    def take(self) -> str:
        """The text that arrived since the last call; it is in its conversation now."""
        text = self.turn.take() if self.turn is not None else ""
        if self.turn is not None and text:
            self.turn.task.conversation.extend(self.turn.task.reply.id, text)
        return text

    def finish(self) -> Node | None:
        """The turn ended: take its last words. Returns the reply, or None if it never got a word."""
        turn = self.turn
        assert turn is not None
        self.take()
        self.turn = None
        self._saved |= turn.saved
        for written in turn.rewritten:
            del self._unwritten[written]
        conversation, reply_id = turn.task.conversation, turn.task.reply.id
        self._unwritten |= {node.id: conversation for node in turn.task.unsaved if node.id not in turn.saved}
        if conversation.nodes[reply_id].text:
            if turn.store_error is not None:
                self._unwritten[reply_id] = conversation
            return conversation.finish(reply_id, turn.cost, model=turn.model_name)
        conversation.withdraw(reply_id)
        conversation.leaf = self._shown_before
        return None

    def close(self, timeout: float) -> None:
        """Stop the reply and wait until its last words are on disk, at most `timeout` seconds.

        What the disk refused before is written again.
        """
        if self.stop() and self._thread is not None:
            self._thread.join(timeout)
        # What a turn just wrote is longer than what the conversation has taken of it.
        writing = self.turn.task.reply.id if self.turn is not None else None
        for message, chat in self._unwritten.items():
            if message != writing:
                # Nobody is there any more to hear that the disk still refuses it.
                with suppress(BadStore):
                    write(self._store, chat, chat.nodes[message])
