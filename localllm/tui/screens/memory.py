"""Where the memory goes, on a whole screen: devices, the last minutes, layers, and what other settings would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen

from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.tui.messages import OptionsChosen, Sampled, Simulated, WhatIfAsked
from localllm.tui.simulator import Simulator
from localllm.tui.vitals import History
from localllm.tui.widgets.key_line import KeyLine
from localllm.tui.widgets.memory_map import MemoryMap
from localllm.tui.widgets.what_if import WhatIf

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class MemoryScreen(Screen[Options | None]):
    """Its result are the options to load the model with, or None."""

    AUTO_FOCUS = "WhatIf"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Back"),
        Binding("f9,q", "dismiss", "Back", show=False),
    ]

    def __init__(self, chat: ChatScreen, history: History) -> None:
        super().__init__()
        self._chat = chat
        self._history = history
        self._simulator = Simulator(self._model, self.post_message)

    def _model(self) -> Responder | None:
        return self._chat.model

    def compose(self) -> ComposeResult:
        """Textual's."""
        with VerticalScroll(id="memory-page", can_focus=False):
            yield MemoryMap()
            yield WhatIf()
        yield KeyLine()

    def on_mount(self) -> None:
        """Textual's."""
        self._simulator.start(self._chat.crashed)
        self.show(self._chat.watching.last)

    def on_unmount(self) -> None:
        """Textual's."""
        self._simulator.close()

    def show(self, sample: Sampled | None) -> None:
        """Draw a sample."""
        model = self._model()
        memory, machine = (sample.memory, sample.machine) if sample is not None and model is not None else (None, None)
        self.query_one(MemoryMap).show(memory, machine, self._history)
        if model is not None:
            self.query_one(WhatIf).begin(model.info, model.plan)

    @on(WhatIfAsked)
    def _asked(self, event: WhatIfAsked) -> None:
        self._simulator.ask(event.options)

    @on(Simulated)
    def _simulated(self, event: Simulated) -> None:
        self.query_one(WhatIf).answer(event.options, event.plan)

    @on(OptionsChosen)
    def _chosen(self, event: OptionsChosen) -> None:
        self.dismiss(event.options)
