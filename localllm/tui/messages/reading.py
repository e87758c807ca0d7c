"""What the person looks at: versions of a message, and what is found in the transcript."""

from __future__ import annotations

from textual.message import Message


class VersionWanted(Message):
    """The person wants to see the version of a message before this one, or with 1 the one after."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__()
        self.message = message
        self.step = step


class FindChanged(Message):
    """The person looks for another text; an empty one is none."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class FindMoved(Message):
    """The person wants to see the match after, or with -1 before."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step


class FindClosed(Message):
    """The person has found enough."""


class Found(Message):
    """How many matches there are so far, and which is shown, from 1; `over` when all was searched."""

    def __init__(self, place: int, count: int, *, over: bool) -> None:
        super().__init__()
        self.place = place
        self.count = count
        self.over = over

    def can_replace(self, message: Message) -> bool:
        """Only the latest count counts."""
        return isinstance(message, Found)
