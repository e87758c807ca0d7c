"""What happens to a reply, to the conversation that it is of, and to what works on it in the background."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from localllm.errors import LocalLLMError
from localllm.runtime.types import Forecast
from localllm.tui.outlook import Question
from localllm.tui.room import Crowding, Growth
from localllm.tui.turn import Turn


class ReplyBegan(Message):
    """The first piece of a reply is there."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


class ReplyGrew(Message):
    """There is more of a reply to take."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


class ReplyEnded(Message):
    """A reply ended, whatever the reason: the turn knows it."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


class LookedAhead(Message):
    """What a reply to a conversation and what is being written would begin with, in a context of `n_ctx` tokens."""

    def __init__(self, question: Question, forecast: Forecast, n_ctx: int) -> None:
        super().__init__()
        self.question = question
        self.forecast = forecast
        self.n_ctx = n_ctx

    def can_replace(self, message: Message) -> bool:
        """Only the latest counts."""
        return isinstance(message, LookedAhead)


class Crowded(Message):
    """How a conversation fills its context."""

    def __init__(self, crowding: Crowding) -> None:
        super().__init__()
        self.crowding = crowding


class GrowthsPlanned(Message):
    """What larger contexts would take."""

    def __init__(self, growths: Sequence[Growth]) -> None:
        super().__init__()
        self.growths = growths


class SummaryGrew(Message):
    """More of a summary is there."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class SummaryEnded(Message):
    """A summary is written."""


class Failed(Message):
    """Something in the background failed in a way that the person can do something about."""

    def __init__(self, error: LocalLLMError) -> None:
        super().__init__()
        self.error = error


class Crashed(Message):
    """A mistake of ours in a background thread: raised again where it is seen."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error
