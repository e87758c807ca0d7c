"""The messages of the app, in one place: what happened, never what to do about it.

Those from other threads carry values that no longer change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from localllm.chat.attachments import Weighed
from localllm.chat.conversation import Conversation
from localllm.chat.search import Hit
from localllm.chat.store import ChatEntry
from localllm.errors import LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.types import Forecast, MemorySample, Plan
from localllm.tui import models
from localllm.tui.completing import Choice, Word
from localllm.tui.outlook import Question
from localllm.tui.own_model import OwnModel
from localllm.tui.room import Crowding, Growth
from localllm.tui.turn import Turn
from localllm.tui.vitals import Machine

if TYPE_CHECKING:  # what few need, and the first picture would wait for
    from localllm.library.offers import Offer
    from localllm.library.search import Hit as RepoHit
    from localllm.measure.comparing import Contender
    from localllm.tui.beside import Seat


class PromptSent(Message):
    """The person sent a message."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class ModelChanged(Message):
    """The model is loading, is loaded, or failed to load: ask the loader which."""

    def can_replace(self, message: Message) -> bool:
        """Only the latest state counts."""
        return isinstance(message, ModelChanged)


class ReplyBegan(Message):
    """The first piece of a reply is there."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


class ReplyEnded(Message):
    """A reply ended, whatever the reason: the turn knows it."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.turn = turn


class Sampled(Message):
    """How the memory of the model stands, how many tokens its KV cache holds, and how the machine is."""

    def __init__(self, memory: MemorySample, context_used: int, machine: Machine) -> None:
        super().__init__()
        self.memory = memory
        self.context_used = context_used
        self.machine = machine

    def can_replace(self, message: Message) -> bool:
        """Only the latest sample counts."""
        return isinstance(message, Sampled)


class MachineWatched(Message):
    """How the machine is."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self.machine = machine

    def can_replace(self, message: Message) -> bool:
        """Only the latest look counts."""
        return isinstance(message, MachineWatched)


class ModelsListed(Message):
    """The models that can be talked to."""

    def __init__(self, choices: Sequence[models.Choice]) -> None:
        super().__init__()
        self.choices = choices


class HubSearched(Message):
    """What the hub has by some words, or why it did not tell."""

    def __init__(self, words: str, hits: Sequence[RepoHit], error: LocalLLMError | None) -> None:
        super().__init__()
        self.words = words
        self.hits = hits
        self.error = error


class HubOffered(Message):
    """The models in a repo that a search by `words` found, or why the hub did not tell."""

    def __init__(self, words: str, repo: str, offers: Sequence[Offer], error: LocalLLMError | None) -> None:
        super().__init__()
        self.words = words
        self.repo = repo
        self.offers = offers
        self.error = error


class ModelNamed(Message):
    """The person named a model, and it is here."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__()
        self.name = name
        self.path = path


class OwnModelFound(Message):
    """What the open chat was used with; `look` is the number of the look that found it."""

    def __init__(self, offer: OwnModel, look: int) -> None:
        super().__init__()
        self.offer = offer
        self.look = look


class OwnModelWanted(Message):
    """The person wants the model loaded that the chat was used with: Enter in an empty prompt, or a click."""


class ModelLabelled(Message):
    """The name that stands for a model on this machine."""

    def __init__(self, path: Path, label: str) -> None:
        super().__init__()
        self.path = path
        self.label = label


class ContenderFound(Message):
    """A model for side `number` of a comparison, or why there is none."""

    def __init__(self, number: int, contender: Contender | LocalLLMError) -> None:
        super().__init__()
        self.number = number
        self.contender = contender


class SeatsPlanned(Message):
    """How the models of a comparison would come into memory."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        super().__init__()
        self.seats = seats


class DownloadMoved(Message):
    """How far a download is, in bytes, and how many come in a second; of one that `converts`, weights instead.

    `remark` is what it waits for, while it does.
    """

    def __init__(
        self, name: str, done: int, total: int, rate: float, *, converts: bool = False, remark: str = ""
    ) -> None:
        super().__init__()
        self.name = name
        self.done = done
        self.total = total
        self.rate = rate
        self.converts = converts
        self.remark = remark

    def can_replace(self, message: Message) -> bool:
        """Only the latest counts."""
        return isinstance(message, DownloadMoved)


class DownloadEnded(Message):
    """A model is here, or why it is not."""

    def __init__(self, name: str, path: Path | None, error: LocalLLMError | None) -> None:
        super().__init__()
        self.name = name
        self.path = path
        self.error = error


class WhatIfAsked(Message):
    """The person wants to know what a load with other options would take."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options


class OptionsChosen(Message):
    """The person wants the model loaded with other options."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options


class Simulated(Message):
    """What a load with other options would take, beside what is loaded; or why there is no telling."""

    def __init__(self, options: Options, loaded: Plan, plan: Plan | LocalLLMError) -> None:
        super().__init__()
        self.options = options
        self.loaded = loaded
        self.plan = plan


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


class ModelLost(Message):
    """The model was found dead while nobody waited for it."""

    def __init__(self, error: LocalLLMError) -> None:
        super().__init__()
        self.error = error


class ChatsListed(Message):
    """The chats on disk, the latest first."""

    def __init__(self, chats: list[ChatEntry]) -> None:
        super().__init__()
        self.chats = chats


class ChatOpened(Message):
    """A conversation came from the disk; `message` of it is to be seen, if one is named."""

    def __init__(self, conversation: Conversation, message: str | None = None) -> None:
        super().__init__()
        self.conversation = conversation
        self.message = message


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


class VersionWanted(Message):
    """The person wants to see the version of a message before this one, or with 1 the one after."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__()
        self.message = message
        self.step = step


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


class PromptEdited(Message):
    """What the person is writing changed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def can_replace(self, message: Message) -> bool:
        """Only the latest text counts."""
        return isinstance(message, PromptEdited)


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
    """A file was read for the next message."""

    def __init__(self, file: Weighed) -> None:
        super().__init__()
        self.file = file


class Mentioned(Message):
    """What the files cost that `text` names, or why they cannot go into a message."""

    def __init__(self, text: str, files: list[Weighed | LocalLLMError]) -> None:
        super().__init__()
        self.text = text
        self.files = files


class MessageMade(Message):
    """A message is ready to be sent; `typed` and `pending` are what it was made of."""

    def __init__(self, text: str, typed: str, pending: Sequence[Weighed] = ()) -> None:
        super().__init__()
        self.text = text
        self.typed = typed
        self.pending = pending


class MessageRefused(Message):
    """A message was not sent, because of one of its files: it and its attachments go back to where they were."""

    def __init__(self, text: str, pending: Sequence[Weighed], error: LocalLLMError) -> None:
        super().__init__()
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
