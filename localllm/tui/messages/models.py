"""What happens to models: the one that is loaded, those on this machine and on the hub, and the memory they take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from localllm.errors import LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.types import MemorySample, Plan
from localllm.tui import models
from localllm.tui.own_model import OwnModel
from localllm.tui.vitals import Machine

if TYPE_CHECKING:  # what few need, and the first picture would wait for
    from localllm.library.offers import Offer
    from localllm.library.search import Hit as RepoHit
    from localllm.measure.comparing import Contender
    from localllm.tui.beside import Seat


class ModelChanged(Message):
    """The model is loading, is loaded, or failed to load: ask the loader which."""

    def can_replace(self, message: Message) -> bool:
        """Only the latest state counts."""
        return isinstance(message, ModelChanged)


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


class ModelLost(Message):
    """The model was found dead while nobody waited for it."""

    def __init__(self, error: LocalLLMError) -> None:
        super().__init__()
        self.error = error
