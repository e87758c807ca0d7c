"""What if: settings of the load that can be turned, and what a load with them would take.

Asks and shows; who answers is not known here.
"""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widget import Widget

from localllm.errors import LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.types import ModelInfo, Plan
from localllm.tui.component import component_style
from localllm.tui.messages import OptionsChosen, WhatIfAsked
from localllm.tui.what_if import Knob, knobs, options_of, shown, told
from localllm.tui.wrapping import wrapped

LABEL = 14


class WhatIf(Widget, can_focus=True):
    """Up and Down choose what to turn, Left and Right turn it, Enter loads the model so."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"what-if--{name}" for name in ("title", "note", "here", "turned", "trouble")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Before", show=False),
        Binding("down", "move(1)", "After", show=False),
        Binding("left", "turn(-1)", "Less"),
        Binding("right", "turn(1)", "More"),
        Binding("enter", "load", "Load so"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._loaded: Plan | None = None
        self._knobs: list[Knob] = []
        self._before: list[Knob] = []
        self._at = 0
        self._answer: list[str] = []
        self._trouble = ""
        self._waits = False

    def begin(self, info: ModelInfo, loaded: Plan) -> None:
        """Begin with what is loaded."""
        if loaded is self._loaded:
            return
        self._loaded = loaded
        self._knobs = self._before = knobs(info, loaded)
        self._at = min(self._at, len(self._knobs) - 1)
        self._answer, self._trouble, self._waits = told(loaded, loaded), "", False
        self.refresh(layout=True)

    def answer(self, options: Options, plan: Plan | LocalLLMError) -> None:
        """Show what was asked about `options`."""
        if self._loaded is None or options != self._options():
            return
        self._waits = False
        if isinstance(plan, LocalLLMError):
            self._answer, self._trouble = [], plan.message
        else:
            self._answer, self._trouble = told(self._loaded, plan), ""
        self.refresh(layout=True)

    def _options(self) -> Options | None:
        if self._loaded is None:
            return None
        try:
            return options_of(self._loaded, self._knobs)
        except ValueError as error:
            self._trouble = f"{error}."
            return None

    def action_move(self, step: int) -> None:
        """Another setting."""
        self._at = (self._at + step) % max(1, len(self._knobs))
        self.refresh()

    def action_turn(self, step: int) -> None:
        """Another value."""
        if self._loaded is None:
            return
        self._knobs = [knob.turned(step) if at == self._at else knob for at, knob in enumerate(self._knobs)]
        self._answer, self._trouble = [], ""
        options = self._options()
        self._waits = options is not None
        if options is not None:
            self.post_message(WhatIfAsked(options))
        self.refresh(layout=True)

    def action_load(self) -> None:
        """Load the model with what is shown."""
        options = self._options()
        if options is not None and self._knobs != self._before and not self._waits and not self._trouble:
            self.post_message(OptionsChosen(options))

    def render(self) -> Text:
        """Textual's: the settings, and the answer."""
        lines = [
            self._styled("What if", "title").append_text(
                self._styled("   ↑ ↓ choose · ← → turn · Enter loads so", "note")
            )
        ]
        for at, (knob, before) in enumerate(zip(self._knobs, self._before, strict=True)):
            here = at == self._at and self.has_focus
            name = "here" if here else "turned" if knob.value != before.value else "note"
            was = f"   now {shown(before.value)}" if knob.value != before.value else ""
            line = self._styled(f"{'›' if here else ' '} {knob.title:<{LABEL}}", "here" if here else "note")
            lines.append(
                line.append_text(self._styled(f"‹ {shown(knob.value)} ›", name)).append_text(self._styled(was, "note"))
            )
        if self._waits:
            lines.append(self._styled("planning…", "note"))
        for text in self._answer:
            lines += wrapped(self._styled(text, "note"), self.size.width)
        if self._trouble:
            lines += wrapped(self._styled(self._trouble, "trouble"), self.size.width)
        return Text("\n").join(lines)

    def _styled(self, text: str, component: str) -> Text:
        return Text(text, component_style(self, f"what-if--{component}"))
