"""What a person can choose when a conversation has outgrown its context. Data only."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.runtime.options import Options


@dataclass(frozen=True)
class LeaveOut:
    """Send nothing above the message `first`."""

    first: str


@dataclass(frozen=True)
class Summarise:
    """Send a summary in place of the oldest `count` turns, which end before the message `first`."""

    first: str
    count: int


@dataclass(frozen=True)
class Grow:
    """Load the model again with a larger context."""

    options: Options


@dataclass(frozen=True)
class Branch:
    """Ask again after the message `parent`, None for the beginning; what came after it stays as another branch."""

    parent: str | None


@dataclass(frozen=True)
class TakeBack:
    """Put the question that waits back into the prompt."""


@dataclass(frozen=True)
class SendAgain:
    """Take back the last `LeaveOut` or `Summarise`."""


Remedy = LeaveOut | Summarise | Grow | Branch | TakeBack | SendAgain
