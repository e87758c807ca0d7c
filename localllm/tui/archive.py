"""The store, asked from the app's thread without waiting for it: answers come back as messages.

Knows nothing of widgets. A message of the person and the words of a reply are written by the turn, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from textual.message import Message

from localllm.chat import transfer
from localllm.chat.attachments import split
from localllm.chat.conversation import Conversation, Node
from localllm.chat.drafts import together
from localllm.chat.naming import chat_named
from localllm.chat.store import Store
from localllm.errors import BadStore, LocalLLMError
from localllm.tui import background
from localllm.tui.messages import (
    ChatExported,
    ChatOpened,
    ChatsFound,
    ChatsListed,
    Crashed,
    DraftFound,
    Failed,
    PromptsFound,
)

REMEMBERED_PROMPTS = 200


class Archive:
    """Jobs for the disk, done one after the other; `post` gets what they find, from their thread."""

    def __init__(self, store: Store, post: Callable[[Message], object]) -> None:
        self._store = store
        self._post = post
        self._jobs = background.Queue("chats on disk", lambda error: post(Crashed(error)))
        self._sought = ""
        self._refused: dict[str, tuple[str, float]] = {}
        """The drafts, by chat, that the disk refused, and when they were written. Only the thread of the disk asks."""

    @property
    def recovered(self) -> frozenset[str]:
        """The chats in which a killed app was writing."""
        return self._store.recovered

    def list(self) -> None:
        """Find all chats; drafts that the disk refused before are written again."""
        self._do(self._keep_refused)
        self._do(lambda: self._post(ChatsListed(self._store.chats())))

    def find_prompts(self) -> None:
        """Find what the person wrote in earlier chats, without the files that went with it."""

        def find() -> None:
            said = [split(prompt)[1] for prompt in self._store.prompts(REMEMBERED_PROMPTS)]
            self._post(PromptsFound([text for text in said if text.strip()]))

        self._do(find)

    def search(self, words: str) -> None:
        """Find the chats that hold `words`."""
        self._sought = words

        def find() -> None:
            # Letters come faster than many chats are searched: only the last is of interest.
            if words == self._sought:
                self._post(ChatsFound(words, self._store.find(words)))
                self._do(self._index)

        self._do(find)

    def _index(self) -> None:
        """Index what was never searched, with what else is asked for in between."""
        if self._store.index_some():
            self._do(self._index)

    def open(self, chat_id: str, message: str | None = None) -> None:
        """Read a conversation, and show the branch of it that holds `message`."""

        def read() -> None:
            conversation = self._store.load(chat_id)
            known = message if message in conversation.nodes else None
            if known is not None and known not in {node.id for node in conversation.path()}:
                conversation.select(known)
            self._post(ChatOpened(conversation, known))

        self._do(read)

    def show(self, chat_id: str, leaf: str | None) -> None:
        """Remember which message of a chat is shown last."""
        self._do(lambda: self._store.show(chat_id, leaf))

    def keep(self, conversation: Conversation, node: Node) -> None:
        """Write a message that no reply follows."""
        self._do(lambda: self._store.add(conversation, node))
        self.list()

    def keep_fork(self, fork: Conversation, title: str) -> None:
        """Write a fork of the chat that has this title, and open it."""

        def write() -> None:
            self._store.add_whole(fork)
            self._post(ChatOpened(fork, forked_from=title))

        self._do(write)

    def keep_system(self, chat_id: str, system: str) -> None:
        """Remember the system prompt of a chat."""
        self._do(lambda: self._store.set_system(chat_id, system))

    def keep_draft(self, chat_id: str, text: str, written: float) -> None:
        """Keep what is being written in a chat. Where the disk refuses it, it is written with what is asked later."""
        self._do(lambda: self._keep_draft(chat_id, text, written))

    def add_to_draft(self, chat_id: str, text: str, written: float) -> None:
        """Put more behind the draft of a chat, which nobody has looked at."""
        self._do(lambda: self._keep_draft(chat_id, together([self._find_draft(chat_id), text]), written))

    def _keep_draft(self, chat_id: str, text: str, written: float) -> None:
        self._refused.pop(chat_id, None)
        try:
            self._store.drafts.keep(chat_id, text, written)
        except BadStore:
            self._refused[chat_id] = (text, written)
            raise

    def _keep_refused(self) -> None:
        for chat_id, draft in list(self._refused.items()):
            self._store.drafts.keep(chat_id, *draft)
            del self._refused[chat_id]

    def find_draft(self, chat_id: str) -> None:
        """Find what was being written in a chat."""
        self._do(lambda: self._post(DraftFound(chat_id, self._find_draft(chat_id))))

    def _find_draft(self, chat_id: str) -> str:
        refused = self._refused.get(chat_id)
        return self._store.drafts.take(chat_id) if refused is None else refused[0]

    def export(self, conversation: Conversation, path: Path) -> None:
        """Write a chat to a file that is not there yet, and say so."""

        def write() -> None:
            transfer.export([conversation], path, transfer.format_of(path))
            self._post(ChatExported(path, len(conversation.path())))

        self._do(write)

    def open_named(self, name: str) -> None:
        """Read the conversation that a person calls `name`."""
        self._do(lambda: self._post(ChatOpened(self._store.load(chat_named(name, self._store.chats()).id))))

    def keep_settings(self, chat_id: str, settings: Mapping[str, object]) -> None:
        """Remember the settings of a chat."""
        self._do(lambda: self._store.set_settings(chat_id, settings))

    def rename(self, chat_id: str, title: str) -> None:
        """Give a chat a title; an empty one is automatic again."""
        self._do(lambda: self._store.rename(chat_id, title))
        self.list()

    def suggest_title(self, chat_id: str, title: str) -> None:
        """Give a chat a title that a model made, unless a person gave it one."""
        self._do(lambda: self._store.suggest_title(chat_id, title))
        self.list()

    def pin(self, chat_id: str, pinned: bool) -> None:
        """Keep a chat at the top of the list, or no longer."""
        self._do(lambda: self._store.pin(chat_id, pinned))
        self.list()

    def delete(self, chat_id: str) -> None:
        """Take a chat off the list."""
        self._do(lambda: self._store.delete(chat_id))
        self.list()

    def restore(self, chat_id: str) -> None:
        """Put it back."""
        self._do(lambda: self._store.restore(chat_id))
        self.list()

    def close(self, timeout: float) -> None:
        """Finish what was asked, in at most `timeout` seconds."""
        self._do(self._keep_refused)
        self._jobs.close(timeout)

    def _do(self, job: Callable[[], object]) -> None:
        def run() -> None:
            try:
                job()
            except LocalLLMError as error:
                self._post(Failed(error))

        self._jobs.put(run)
