"""What happens to chats: those on disk, and what the person wants done with one in the list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.message import Message

from localllm.chat.conversation import Conversation
from localllm.chat.rows import ChatEntry
from localllm.chat.search import Hit


class ChatsListed(Message):
    """The chats on disk, the latest first."""

    def __init__(self, chats: list[ChatEntry]) -> None:
        super().__init__()
        self.chats = chats


class ChatOpened(Message):
    """A conversation came from the disk; `message` of it is to be seen, if one is named.

    `forked_from` is the title of the chat that it was just made of; empty where it was not.
    """

    def __init__(self, conversation: Conversation, message: str | None = None, *, forked_from: str = "") -> None:
        super().__init__()
        self.conversation = conversation
        self.message = message
        self.forked_from = forked_from


class DraftFound(Message):
    """What was being written in a chat and not sent; empty where nothing was."""

    def __init__(self, chat: str, text: str) -> None:
        super().__init__()
        self.chat = chat
        self.text = text


class ChatChosen(Message):
    """The person picked a chat in the list, and with it the message that a search found."""

    def __init__(self, chat_id: str, message: str | None = None) -> None:
        super().__init__()
        self.chat_id = chat_id
        self.message = message


class ChatExported(Message):
    """A chat was written to a file, so many of its messages."""

    def __init__(self, path: Path, messages: int) -> None:
        super().__init__()
        self.path = path
        self.messages = messages


class SearchChanged(Message):
    """The person says what to look for in all chats."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words

    def can_replace(self, message: Message) -> bool:
        """Only the latest words count."""
        return isinstance(message, SearchChanged)


class ChatsFound(Message):
    """The chats that hold `words`, the latest first."""

    def __init__(self, words: str, hits: Sequence[Hit]) -> None:
        super().__init__()
        self.words = words
        self.hits = hits


class ChatsLeftUpward(Message):
    """The person turned from the list to the search above it."""


class ChatsLeftDownward(Message):
    """The person turned from the search to the list below it."""


class ChatPinned(Message):
    """The person asked to keep a chat at the top of the list, or no longer."""

    def __init__(self, chat_id: str, pinned: bool) -> None:
        super().__init__()
        self.chat_id = chat_id
        self.pinned = pinned


class TitleWanted(Message):
    """The person wants to give a chat another title than this one."""

    def __init__(self, chat_id: str, title: str) -> None:
        super().__init__()
        self.chat_id = chat_id
        self.title = title


class ChatsLeft(Message):
    """The person turned away from the list."""


class ChatDropped(Message):
    """The person asked to delete a chat in the list."""

    def __init__(self, chat_id: str, title: str) -> None:
        super().__init__()
        self.chat_id = chat_id
        self.title = title


class PromptsFound(Message):
    """What the person wrote in earlier chats, oldest first."""

    def __init__(self, prompts: list[str]) -> None:
        super().__init__()
        self.prompts = prompts
