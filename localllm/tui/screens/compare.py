"""One prompt to two models, side by side: what each says, how fast, and where the memory goes.

They answer one after the other. The open chat and its engine stay as they are, unless both models do not fit at once;
the screen says so before it happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from localllm.chat.attachments import split
from localllm.errors import LocalLLMError
from localllm.measure.compared import as_markdown, verdicts
from localllm.measure.comparing import MAX_TOKENS, Answer, Comparison, Request
from localllm.runtime.sampling import Sampling
from localllm.tui.beside import Beside
from localllm.tui.contest import Contest
from localllm.tui.messages import ContenderFound, SeatsPlanned
from localllm.tui.models import Choice
from localllm.tui.pairing import SIDES, Pairing
from localllm.tui.widgets.figures import Figures
from localllm.tui.widgets.key_line import KeyLine
from localllm.tui.widgets.question import Question
from localllm.tui.widgets.side import Side
from localllm.tui.wrapping import printable

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen

TICK_S = 0.1
"""How often growing answers are drawn."""

BESIDE_FROM = 100
"""From so many columns on the sides stand beside each other; below that, one above the other."""

ROOM_FOR_TABLE = 34
"""Below so many rows the table of both is cut, and scrolls."""

NO_MODEL = "no model yet"
NO_QUESTION = "Nobody was asked: write first what both are to answer."
IN_TURN = "They answer one after the other: at once they would share the cores."
CHOOSE = "F7 chooses the left model, F8 the right one; any on this machine."


class CompareScreen(Screen[None]):
    """Enter asks both; Esc stops what runs, then leaves."""

    AUTO_FOCUS = "Question"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("escape", "leave", "Back"),
        # Before the prompt, whose own they are.
        Binding("f7", "choose('left')", "Left model", priority=True),
        Binding("f8", "choose('right')", "Right model", priority=True),
        Binding("f6", "sample_otherwise", "Sampling", priority=True),
        Binding("enter", "ask_again", "Ask again"),
        Binding("c", "copy", "Copy"),
        Binding("ctrl+o", "copy", "Copy", show=False),
    ]

    def __init__(self, chat: ChatScreen, right: str = "") -> None:
        super().__init__()
        self._chat = chat
        self._named = right
        self._engines = Beside(chat.behind.loader, chat.crashed)
        self._pair = Pairing(self._engines, self.post_message)
        self._greedy = True
        self._contest: Contest | None = None
        self._done: tuple[Request, list[Answer]] | None = None

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Container(id="compare-sides"):
            for name in SIDES:
                yield Side(id=f"compare-{name}")
        with VerticalScroll(id="compare-both"):
            yield Figures(id="compare-figures")
        yield Static(id="compare-note")
        yield Question(self._last_prompt(), id="compare-prompt")
        yield KeyLine()

    def on_mount(self) -> None:
        """Textual's."""
        self._ticker = self.set_interval(TICK_S, self._draw, pause=True)
        self._chat.behind.titler.stop()
        # To look at memory takes time from a model that is measured.
        self._chat.behind.sampler.want(False)
        for number in range(len(SIDES)):
            self._show_contender(number)
        self._show_sampling()
        self._say(f"{CHOOSE} {IN_TURN}" if self._pair.refused is None else f"{self._pair.refused}\n{CHOOSE}")
        if self._named:
            self._pair.find(1, self._named)

    def on_unmount(self) -> None:
        """Textual's: what runs ends, and the second engine is freed."""
        if self._contest is not None:
            self._contest.stop()
        self._engines.close()

    def on_resize(self) -> None:
        """Textual's: the sides stand where there is room."""
        self.set_class(self.app.size.width < BESIDE_FROM, "-stacked")
        self.set_class(self.app.size.height < ROOM_FOR_TABLE, "-short")
        self._show_both()

    def _last_prompt(self) -> str:
        """What the person asked last in the open chat, without the files that went with it."""
        said = (node.text for node in reversed(self._chat.conversation.path()) if node.role == "user")
        return split(next(said, ""))[1].strip()

    def _sides(self) -> Iterator[Side]:
        return iter(self.query(Side))

    def _side(self, number: int) -> Side:
        return self.query_one(f"#compare-{SIDES[number]}", Side)

    def _show_contender(self, number: int) -> None:
        model = self._pair[number]
        self._side(number).name_model(model.name if model is not None else NO_MODEL)

    def _say(self, text: str) -> None:
        self.query_one("#compare-note", Static).update(Content(printable(text)))

    # Choosing.

    def action_choose(self, side: str) -> None:
        """Pick the model of a side."""
        if self._contest is None:
            number = SIDES.index(side)
            self._chat.switching.offer(lambda choice: self._chosen(number, choice))

    def _chosen(self, number: int, choice: Choice | None) -> None:
        if choice is not None and choice.path is not None:
            self._pair.find(number, choice.name, choice.path)

    @on(ContenderFound)
    def _found(self, event: ContenderFound) -> None:
        error = self._pair.found(event)
        if error is not None:
            self._say(f"{error}")
            return
        # The answers that are there are not those of these two.
        self._done = None
        for number in range(len(SIDES)):
            self._show_contender(number)
        self._show_both()
        self.refresh_bindings()
        self._say("Planning what they take in memory…")

    @on(SeatsPlanned)
    def _planned(self, event: SeatsPlanned) -> None:
        if self._contest is None:
            self._say(" ".join([*map(str, event.seats), IN_TURN]))

    def action_sample_otherwise(self) -> None:
        """Greedily, or as the open chat does."""
        if self._contest is None:
            self._greedy = not self._greedy
            self._show_sampling()

    def _show_sampling(self) -> None:
        how = "greedy" if self._greedy else "as the chat samples, one seed"
        system = "system prompt of the chat · " if self._chat.conversation.system else ""
        prompt = self.query_one(Question)
        prompt.border_title = "Ask both"
        prompt.border_subtitle = f"{system}{how} · at most {MAX_TOKENS} tokens"

    # Running.

    @on(Question.Asked)
    def _asked(self, event: Question.Asked) -> None:
        self._ask(event.text)

    def action_ask_again(self) -> None:
        """Ask what the prompt says."""
        text = self.query_one(Question).text
        if text.strip():
            self._ask(text)

    def _ask(self, text: str) -> None:
        if self._contest is not None:
            return
        missing = self._pair.missing or ("" if text.strip() else NO_QUESTION)
        if missing:
            self._say(missing)
            return
        try:
            sampling = Sampling(temperature=0) if self._greedy else self._chat.sampling
        except LocalLLMError as error:
            self._say(f"{error}")
            return
        self._engines.give_up_planning()
        for side in self._sides():
            side.clear()
        self._done = None
        self._show_both()
        request = Request(text, sampling, self._chat.conversation.system, MAX_TOKENS)
        self._contest = Contest(Comparison(self._pair.models, request, self._engines), self._chat.crashed)
        self._say(IN_TURN)
        self._ticker.resume()
        self.refresh_bindings()

    def _draw(self) -> None:
        """Show what happened since the last time."""
        contest = self._contest
        if contest is None:
            return
        over = contest.is_over  # asked first: what happens meanwhile is shown the next time
        for number, step in contest.take():
            self._side(number).take(step)
        if over:
            self._end(contest)

    def _end(self, contest: Contest) -> None:
        self._contest = None
        self._ticker.pause()
        answers = [side.answer for side in self._sides() if side.answer is not None]
        for side in self._sides():
            side.border_subtitle = "" if side.answer is not None else "not asked"
        if answers:
            self._done = contest.request, answers
        told = verdicts(answers) if len(answers) > 1 else []
        self._say(" ".join([*(["Stopped."] if contest.stopped else []), *told]))
        self._show_both()
        # Who has begun to write the next question goes on with it.
        if self.query_one(Question).text.strip("\n") == contest.request.prompt.strip("\n"):
            self._side(0).focus_text()
        self.refresh_bindings()

    def _show_both(self) -> None:
        """The figures of both in one table, which is seen where the sides are not beside each other."""
        answers = [side.answer for side in self._sides()]
        both = self.query_one("#compare-figures", Figures)
        both.show(answers if any(answers) else [])
        self.query_one("#compare-both").display = any(answers) and self.has_class("-stacked")

    def interrupt(self) -> bool:
        """Stop what runs, at any stage. Whether something did."""
        if self._contest is None:
            return False
        self._contest.stop()
        self._say("Stopping…")
        return True

    def action_stop(self) -> None:
        """Stop what runs."""
        self.interrupt()

    def action_leave(self) -> None:
        """Go back to the chat."""
        self.dismiss()

    def action_copy(self) -> None:
        """Copy prompt, figures and texts as Markdown."""
        if self._done is not None:
            self.app.copy_to_clipboard(as_markdown(*self._done))
            self.notify("Copied as Markdown.")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: which keys mean something now."""
        if action == "stop":
            return self._contest is not None
        if action in ("leave", "choose", "sample_otherwise"):
            return self._contest is None
        if action == "copy":
            return self._done is not None and self._contest is None
        if action == "ask_again":
            written = any(question.text.strip() for question in self.query(Question))
            return self._contest is None and len(self._pair.models) == len(SIDES) and written
        return super().check_action(action, parameters)
