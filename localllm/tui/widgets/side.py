"""One side of a comparison: the name of a model, what it says, and the figures below it.

Knows nothing of who makes the answer.
"""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from localllm.errors import Cancelled, LocalLLMError
from localllm.measure.comparing import Answer, Loading, Reading, Said, Step
from localllm.tui import amounts, wording
from localllm.tui.entries import GAP
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.widgets.figures import Figures
from localllm.tui.widgets.transcript import Transcript
from localllm.tui.wrapping import printable


class Side(Vertical):
    """A frame whose title is the model; its state is in the lower edge."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._entry: ReplyEntry | None = None
        self.answer: Answer | None = None
        self._first: Said | None = None
        """From here on the rate is counted."""

    def compose(self) -> ComposeResult:
        """Textual's."""
        yield Transcript()
        yield Figures()

    def name_model(self, name: str) -> None:
        """Another model is on this side: what was here is gone."""
        self.border_title = printable(name)
        self.clear()

    def clear(self) -> None:
        """Nothing is said yet."""
        self.answer = self._entry = None
        self.border_subtitle = ""
        self.query_one(Transcript).show([])
        self.query_one(Figures).show([])

    def take(self, step: Step) -> None:
        """Show the next step of the answer."""
        if isinstance(step, Loading):
            self.border_subtitle = f"loading {step.fraction:.0%}"
        elif isinstance(step, Reading):
            self.border_subtitle = "reading the prompt"
            self._first = None
            self._entry = ReplyEntry(opened=step.info.opens_thought)
            self._entry.begin()
            self.query_one(Transcript).append(self._entry)
        elif isinstance(step, Said) and self._entry is not None:
            self._first = first = self._first or step
            rate = wording.live_rate(step.pieces - first.pieces, step.at - first.at)
            self.border_subtitle = f"writing{GAP}{amounts.rate(rate)}" if rate else "writing"
            self._entry.grow(step.text)
            self.query_one(Transcript).redraw(self._entry)
        elif isinstance(step, Answer):
            self._end(step)

    def _end(self, answer: Answer) -> None:
        self.answer = answer
        self.border_subtitle = ""
        transcript = self.query_one(Transcript)
        if self._entry is not None:
            self._entry.end()
            transcript.redraw(self._entry)
        if answer.error is not None and not isinstance(answer.error, Cancelled):
            self.fail(answer.error)
        self.query_one(Figures).show([answer])

    def focus_text(self) -> None:
        """Let keys scroll the text."""
        self.query_one(Transcript).focus()

    def fail(self, error: LocalLLMError) -> None:
        """Say below the text what went wrong."""
        self.query_one(Transcript).append(wording.notice(error))
