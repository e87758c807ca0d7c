"""The store, asked from the app's thread without waiting for it: answers come back as messages.

Knows nothing of widgets. A message of the person and the words of a reply are written by the turn, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual.message import Message

from localllm.chat.attachments import split
from localllm.chat.store import Store
from localllm.errors import BadStore
from localllm.tui import background
from localllm.tui.messages import ChatOpened, ChatsListed, Crashed, Failed, PromptsFound

REMEMBERED_PROMPTS = 200


class Archive:
    """Jobs for the disk, done one after the other; `post` gets what they find, from their thread."""

    def __init__(self, store: Store, post: Callable[[Message], object]) -> None:
        self._store = store
        self._post = post
        self._jobs = background.Queue("chats on disk", lambda error: post(Crashed(error)))

    def list(self) -> None:
        """Find all chats."""
        self._do(lambda: self._post(ChatsListed(self._store.chats())))

    def find_prompts(self) -> None:
        """Find what the person wrote in earlier chats, without the files that went with it."""

        def find() -> None:
            said = [split(prompt)[1] for prompt in self._store.prompts(REMEMBERED_PROMPTS)]
            self._post(PromptsFound([text for text in said if text.strip()]))

        self._do(find)

    def open(self, chat_id: str) -> None:
        """Read a conversation."""
        self._do(lambda: self._post(ChatOpened(self._store.load(chat_id))))

    def show(self, chat_id: str, leaf: str | None) -> None:
        """Remember which message of a chat is shown last."""
        self._do(lambda: self._store.show(chat_id, leaf))

    def keep_settings(self, chat_id: str, settings: Mapping[str, object]) -> None:
        """Remember the settings of a chat."""
        self._do(lambda: self._store.set_settings(chat_id, settings))

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
        self._jobs.close(timeout)

    def _do(self, job: Callable[[], object]) -> None:
        def run() -> None:
            try:
                job()
            except BadStore as error:
                self._post(Failed(error))

        self._jobs.put(run)
