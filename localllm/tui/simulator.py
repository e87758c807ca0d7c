"""Asks the model what a load with other options would take, in a thread of its own, the latest question only."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message

from localllm.errors import LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.runtime.types import Plan
from localllm.tui.latest import Latest
from localllm.tui.messages import Simulated


class Simulator:
    """Answers come as `Simulated`."""

    def __init__(self, model: Callable[[], Responder | None], post: Callable[[Message], object]) -> None:
        self._model = model
        self._post = post
        self._latest = Latest(self._answer, "simulate a load")
        self.start, self.ask, self.close = self._latest.start, self._latest.ask, self._latest.close

    def _answer(self, options: Options) -> None:
        model = self._model()
        if model is None:
            return
        plan: Plan | LocalLLMError
        try:
            plan = model.what_if(options)
        except LocalLLMError as error:
            plan = error
        if not self._latest.is_old():
            self._post(Simulated(options, model.plan, plan))
