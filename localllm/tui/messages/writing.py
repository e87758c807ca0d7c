"""What the person writes: a message in the making, its files, and what it may be completed to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from textual.message import Message

from localllm.chat.attachments import Weighed
from localllm.chat.completing import Choice, Word
from localllm.errors import LocalLLMError


class PromptSent(Message):
    """The person sent a message."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class PromptEdited(Message):
    """What the person is writing changed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def can_replace(self, message: Message) -> bool:
        """Only the latest text counts."""
        return isinstance(message, PromptEdited)


class AttachmentsChanged(Message):
    """Other files go along with the next message."""


class PathWanted(Message):
    """The person writes a path: what may it become?"""

    def __init__(self, word: Word) -> None:
        super().__init__()
        self.word = word


class PathsFound(Message):
    """What a path may become."""

    def __init__(self, word: Word, choices: list[Choice]) -> None:
        super().__init__()
        self.word = word
        self.choices = choices


class FilesDropped(Message):
    """Files were dragged into the prompt."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self.paths = paths


class LongPaste(Message):
    """A text was pasted that is too long to be written in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class Attached(Message):
    """A file was read for the next message, as was asked by this `errand`."""

    def __init__(self, errand: int, file: Weighed) -> None:
        super().__init__()
        self.errand = errand
        self.file = file


class NotAttached(Message):
    """A file cannot go into the next message, as was asked by this `errand`."""

    def __init__(self, errand: int, error: LocalLLMError) -> None:
        super().__init__()
        self.errand = errand
        self.error = error


class Mentioned(Message):
    """What the files cost that `text` names, or why they cannot go into a message."""

    def __init__(self, text: str, files: list[Weighed | LocalLLMError]) -> None:
        super().__init__()
        self.text = text
        self.files = files


class MessageMade(Message):
    """A message is ready to be sent, as was asked by this `errand`; `typed` and `pending` are what it was made of."""

    def __init__(self, errand: int, text: str, typed: str, pending: Sequence[Weighed] = ()) -> None:
        super().__init__()
        self.errand = errand
        self.text = text
        self.typed = typed
        self.pending = pending


class MessageRefused(Message):
    """A message was not sent, because of one of its files: it and its attachments go back to where they were."""

    def __init__(self, errand: int, text: str, pending: Sequence[Weighed], error: LocalLLMError) -> None:
        super().__init__()
        self.errand = errand
        self.text = text
        self.pending = pending
        self.error = error


class ChoicePicked(Message):
    """The person clicked on a suggestion."""

    def __init__(self, choice: Choice) -> None:
        super().__init__()
        self.choice = choice


class BackspaceAtStart(Message):
    """Backspace was pressed where there was nothing to delete."""
