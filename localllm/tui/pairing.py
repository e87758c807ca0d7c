"""The two models of a comparison: chosen, looked at and planned, in threads that report by messages.

Knows nothing of widgets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from textual.message import Message

from localllm.errors import LocalLLMError
from localllm.measure.comparing import Contender
from localllm.tui.beside import Beside
from localllm.tui.messages import ContenderFound, SeatsPlanned

SIDES = ("left", "right")


class Pairing:
    """Begins with the model of the chat alone, if that can be asked anything. `post` may be called from any thread."""

    def __init__(self, engines: Beside, post: Callable[[Message], object]) -> None:
        self._engines = engines
        self._post = post
        self.refused = engines.own_refused
        """Why the model of the chat is not there to begin with."""
        self._models = [engines.own() if self.refused is None else None, None]
        self._finding = 0
        """So many models that were chosen are still looked at."""

    def __getitem__(self, number: int) -> Contender | None:
        """The model of a side."""
        return self._models[number]

    @property
    def models(self) -> list[Contender]:
        """Those that are there, from left to right."""
        return [model for model in self._models if model is not None]

    @property
    def missing(self) -> str:
        """Why the two cannot be asked anything yet; empty if they can."""
        if self._finding:
            return "The model is still looked at; Enter asks once it is named above."
        if self._models[0] is None:
            return "Nobody was asked: there is no first model yet. F7 chooses it."
        if self._models[1] is None:
            return "Nobody was asked: there is no second model yet. F8 chooses it."
        return ""

    def find(self, number: int, name: str, path: Path | None = None) -> None:
        """Look at a model that was named or picked for a side; `ContenderFound` follows."""
        self._finding += 1
        self._engines.find(name, path, lambda found: self._post(ContenderFound(number, found)))

    def found(self, event: ContenderFound) -> LocalLLMError | None:
        """Take it, and ask how both would come into memory: `SeatsPlanned` follows. Or why it cannot be had."""
        self._finding -= 1
        if isinstance(event.contender, LocalLLMError):
            return event.contender
        own = self._engines.own()
        is_own = event.contender.path == own.path
        self._models[event.number] = replace(own, name=event.contender.name) if is_own else event.contender
        self._engines.plan(self.models, lambda seats: self._post(SeatsPlanned(seats)))
        return None
