"""The settings of the chat: system prompt, how replies are made, how the model is loaded, and presets of these.

What a load with them takes is planned while they are written. Its result is what the person settled for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static, TextArea

from localllm import paths
from localllm.chat import presets
from localllm.chat.presets import Preset
from localllm.chat.settings import ENGINE
from localllm.errors import BadSettings, LocalLLMError
from localllm.runtime.types import Plan
from localllm.tui.amounts import seconds
from localllm.tui.form import FIELDS, OF_NAME, Settled, placeholder, settled, texts
from localllm.tui.messages import Simulated
from localllm.tui.simulator import Simulator
from localllm.tui.what_if import told

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen

HINT = "↑↓ Tab move · Enter uses them · ^S keeps, ^L takes a preset · Esc back"


@dataclass(frozen=True)
class Chosen:
    """A system prompt and settings."""

    system: str
    settled: Settled


class SettingsScreen(ModalScreen[Chosen | None]):
    """A form; a value that cannot be is refused where it stands."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f7", "dismiss", "Back"),
        Binding("ctrl+s", "keep_preset", "Keep as preset", priority=True),
        Binding("ctrl+l", "take_preset", "Take a preset", priority=True),
        # Before the field, which would get the keys that come with them in one read, too.
        Binding("tab", "go(1)", "The next field", priority=True),
        Binding("shift+tab", "go(-1)", "The field before", priority=True),
        Binding("down", "leave_line(1)", show=False, priority=True),
        Binding("up", "leave_line(-1)", show=False, priority=True),
    ]

    def __init__(self, chat: ChatScreen, loaded: Plan, load_s: float) -> None:
        super().__init__()
        self._chat = chat
        self._loaded = loaded
        self._load_s = load_s
        self._simulator = Simulator(lambda: chat.model, self.post_message)
        self._settled: Settled | None = None
        self._checked: dict[str, str] = {}
        self._at_preset = ""
        """The name of the preset that the form was last filled with, or kept as."""

    def compose(self) -> ComposeResult:
        """Textual's."""
        model, limit = self._chat.model, self._chat.behind.dialogue.max_tokens
        values = texts(self._chat.conversation.settings, self._loaded)
        with VerticalScroll(id="settings", can_focus=False) as page:
            page.border_title = "Settings of this chat"
            page.border_subtitle = HINT
            for field in FIELDS:
                with Horizontal(classes="field"):
                    yield Label(field.title)
                    empty = placeholder(field, model.info if model is not None else None, limit)
                    yield Input(values[field.name], placeholder=empty, id=field.name, compact=True)
            yield Label("System prompt", id="system-label")
            yield TextArea(self._chat.conversation.system, id="system", tab_behavior="focus", compact=True)
            with Horizontal(classes="field"):
                yield Label("Preset")
                yield Input(placeholder=self._known(), id="preset", compact=True)
            with Vertical(id="settings-foot"):
                yield Static(id="settings-said")
                yield Static(id="settings-cost")

    def _known(self) -> str:
        try:
            names = presets.read(paths.presets_file())
        except BadSettings as error:
            return error.message
        return (
            f"{', '.join(names)}, or a new name for Ctrl+S" if names else "a name, for Ctrl+S to keep these settings by"
        )

    def on_mount(self) -> None:
        """Textual's."""
        self._simulator.start(self._chat.crashed)
        self.query_one("#temperature", Input).focus()
        self._check()

    def on_unmount(self) -> None:
        """Textual's."""
        self._simulator.close()

    @on(Input.Changed)
    def _edited(self, event: Input.Changed) -> None:
        event.stop()
        if event.input.id in OF_NAME:
            self._check()

    def _check(self) -> None:
        values = {field.name: self.query_one(f"#{field.name}", Input).value for field in FIELDS}
        if values == self._checked:
            return
        self._checked = values
        self._say("")
        self._settled, wrong = settled(values, self._loaded, self._chat.conversation.settings.get(ENGINE, {}))
        for field in FIELDS:
            self.query_one(f"#{field.name}", Input).set_class(field.name in wrong, "-wrong")
        if wrong:
            self._tell_cost("\n".join(f"{OF_NAME[name].title}: {why}" for name, why in wrong.items()), wrong=True)
        elif self._settled is not None and self._settled.options != self._loaded.options:
            self._tell_cost("planning what a load with these takes…")
            self._simulator.ask(self._settled.options)
        else:
            self._tell_cost("nothing has to be loaded again")

    def _tell_cost(self, text: str, *, wrong: bool = False) -> None:
        cost = self.query_one("#settings-cost", Static)
        cost.set_class(wrong, "-wrong")
        cost.update(Content(text))

    def _say(self, text: str, *, wrong: bool = False) -> None:
        """Tell what became of a preset: not above the form, where it would hide the first fields."""
        said = self.query_one("#settings-said", Static)
        said.set_class(wrong, "-wrong")
        said.display = bool(text)
        said.update(Content(text))

    @on(Simulated)
    def _simulated(self, event: Simulated) -> None:
        if self._settled is None or event.options != self._settled.options:
            return
        if isinstance(event.plan, LocalLLMError):
            self._settled = None
            self._tell_cost(f"{event.plan}", wrong=True)
            return
        time = f", about {seconds(self._load_s)} as the last time" if self._load_s else ""
        lines = [*told(self._loaded, event.plan), f"the model loads again{time}; chats on disk are kept"]
        self._tell_cost("\n".join(lines), wrong=not event.plan.fits_instead_of(self._loaded))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input.id == "preset" and event.value.strip() not in ("", self._at_preset):
            self._take_preset()
            return
        # What was typed last may not have been told yet.
        self._check()
        if self._settled is not None:
            self.dismiss(Chosen(self.query_one("#system", TextArea).text, self._settled))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: Up and Down move in the lines of the system prompt first."""
        if action == "leave_line" and isinstance(self.focused, TextArea):
            area = self.focused
            edge = area.navigator.is_last_wrapped_line if parameters == (1,) else area.navigator.is_first_wrapped_line
            return edge(area.cursor_location)
        return super().check_action(action, parameters)

    def action_go(self, step: int) -> None:
        """To another field."""
        if step > 0:
            self.focus_next()
        else:
            self.focus_previous()

    def action_leave_line(self, step: int) -> None:
        """To another field, from a line that is the first or the last of its own."""
        self.action_go(step)

    def action_keep_preset(self) -> None:
        """Keep what the form says under the name in its field."""
        self._once_written(self._keep_preset)

    def _once_written(self, deed: Callable[[], None]) -> None:
        """Keys that came in one read before this one are still on their way to the field."""
        (self.focused or self).call_later(deed)

    def _keep_preset(self) -> None:
        self._check()
        if self._settled is None:
            wrong = ", ".join(field.title for field in FIELDS if self.query_one(f"#{field.name}").has_class("-wrong"))
            why = f"mend {wrong} first" if wrong else "no model loads with these settings"
            self._say(f"Not kept: {why}.", wrong=True)
            return
        name = self.query_one("#preset", Input).value
        try:
            presets.keep(paths.presets_file(), name, self._settled.preset(self.query_one("#system", TextArea).text))
        except BadSettings as error:
            self._say(f"{error}", wrong=True)
        else:
            self._at_preset = name.strip()
            self._say(f"Kept as {self._at_preset}. Enter uses it.")

    def action_take_preset(self) -> None:
        """Fill the form with the preset of the name in its field."""
        self._once_written(self._take_preset)

    def _take_preset(self) -> None:
        name = self.query_one("#preset", Input).value.strip()
        try:
            known = presets.read(paths.presets_file())
        except BadSettings as error:
            self._say(f"{error}", wrong=True)
            return
        if name not in known:
            there = f"There are: {', '.join(known)}." if known else "Ctrl+S keeps what stands here as one, by a name."
            wanted = f" {name!r}" if name else ""
            what = f"There is no preset{wanted}{'' if known else ' yet'}." if name or not known else "Name a preset."
            self._say(f"{what} {there}", wrong=True)
            return
        self._fill(known[name])
        self._check()
        self._at_preset = name
        self._say(f"The form says what {name} does. Enter uses it.")

    def _fill(self, preset: Preset) -> None:
        if preset.system is not None:
            self.query_one("#system", TextArea).text = preset.system
        groups: Mapping[str, Mapping[str, object]] = {"sampling": preset.sampling, "engine": preset.engine}
        values = texts(groups, self._loaded)
        for field in FIELDS:
            self.query_one(f"#{field.name}", Input).value = values[field.name]
