"""What happens when a conversation has outgrown its context: the choices are worked out, shown, and carried out.

Counting, planning and summarising happen in threads of their own. Knows the screen only as what shows and answers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from localllm.chat.conversation import Conversation, Given
from localllm.chat.cuts import left_out, send_again
from localllm.errors import LocalLLMError
from localllm.runtime.responder import Responder
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Message
from localllm.tui import background
from localllm.tui.messages import Crowded, Failed, GrowthsPlanned, SummaryEnded, SummaryGrew
from localllm.tui.remedies import Branch, Grow, LeaveOut, Remedy, SendAgain, Summarise, TakeBack
from localllm.tui.room import crowding, growth, larger_contexts, summary_tokens, with_context
from localllm.tui.screens.full_context import FullContext
from localllm.tui.screens.summary import SummaryScreen

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen

SUMMARY = (
    "Summarise our conversation so far for yourself, in at most 150 words: facts, names, decisions, and what is still "
    "open. Write the summary and nothing else."
)


class Overflow:
    """The choices over one screen. All methods are for the app's thread."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen

    def offer(self) -> None:
        """Show the choices for the conversation that is open, and carry out what is chosen."""
        model, conversation = self._screen.model, self._screen.conversation
        given = conversation.given()
        if model is None or not any(one.nodes for one in given):
            return
        dialog = FullContext()
        self._screen.app.push_screen(dialog, lambda remedy: self._carry_out(remedy, stuck=dialog.is_stuck))
        self._start(lambda: _work_out(model, conversation, given, dialog), "count tokens")

    def _start(self, job: background.Job, name: str) -> None:
        def run() -> None:
            try:
                job()
            except LocalLLMError as error:
                self._screen.post_message(Failed(error))

        background.start(run, name, self._screen.crashed)

    def _carry_out(self, remedy: Remedy | None, *, stuck: bool) -> None:
        """Do what was chosen; with `stuck` the full context kept the last turn from its answer, which follows now."""
        conversation = self._screen.conversation
        if isinstance(remedy, LeaveOut):
            self._cut(remedy.first, "", stuck=stuck)
        elif isinstance(remedy, Summarise):
            self._summarise(remedy, stuck=stuck)
        elif isinstance(remedy, Grow):
            self._screen.loaded.load_with(remedy.options)
            if stuck:
                self._screen.replies.answer_what_is_open()
        elif isinstance(remedy, SendAgain):
            self.send_again()
        elif isinstance(remedy, TakeBack):
            self._screen.branches.undo()
        elif isinstance(remedy, Branch):
            question = conversation.question()
            if question is not None:
                conversation.leaf = remedy.parent
                self._screen.show_conversation()
                self._screen.replies.ask(question.text)

    def _cut(self, first: str, summary: str, *, stuck: bool) -> None:
        """Send nothing above the message `first` but the summary."""
        self._screen.conversation.cut(first, summary)
        self._screen.chats.keep_settings()
        self._screen.show_conversation()
        if stuck:
            self._screen.replies.answer_what_is_open()

    def send_again(self) -> None:
        """Send again what the last line keeps out.

        Raises:
            BadCommand: there is no line.
        """
        if self._screen.may_turn():
            told = send_again(self._screen.conversation)
            self._screen.chats.keep_settings()
            self._screen.show_conversation()
            # The line may be far above what is seen.
            self._screen.notify(told)

    def _summarise(self, remedy: Summarise, *, stuck: bool) -> None:
        model, conversation = self._screen.model, self._screen.conversation
        if model is None:
            return
        dialog, stopped = SummaryScreen(), threading.Event()

        def use(summary: str | None) -> None:
            stopped.set()
            if summary is not None:
                self._cut(remedy.first, summary, stuck=stuck)

        self._screen.app.push_screen(dialog, use)
        asked = summary_of(conversation.given(), remedy.first)
        self._start(lambda: _write_summary(model, asked, dialog, stopped), "summarise")


def summary_of(given: Sequence[Given], first: str) -> list[Message]:
    """What to ask a model for a summary of what comes before the message `first`. Begins as the conversation does."""
    end = next(number for number, one in enumerate(given) if first in one.nodes)
    before = [one.message for one in given[:end]]
    if before and before[-1].role == "user":
        return [*before[:-1], Message("user", f"{before[-1].content}\n\n{SUMMARY}")]
    return [*before, Message("user", SUMMARY)]


def _work_out(model: Responder, conversation: Conversation, given: Sequence[Given], dialog: FullContext) -> None:
    messages = [one.message for one in given]
    forecast, trained = model.foresee(messages), model.info.n_ctx_train
    found = crowding(conversation, given, forecast, n_ctx=model.plan.n_ctx, trained=trained)
    gone = left_out(conversation)
    if gone is not None:
        again = model.foresee([one.message for one in conversation.given(mended=gone.first)])
        found = replace(found, left_out=gone, needed_again=again.prompt_tokens)
    dialog.post_message(Crowded(found))
    sizes = larger_contexts(found.needed, found.n_ctx, trained)
    plans = [model.what_if(with_context(model.plan, n_ctx)) for n_ctx in sizes]
    dialog.post_message(GrowthsPlanned([growth(model.plan, plan) for plan in plans]))


def _write_summary(model: Responder, asked: list[Message], dialog: SummaryScreen, stopped: threading.Event) -> None:
    reply = model.reply(asked, sampling=Sampling(temperature=0), max_tokens=summary_tokens(model.plan.n_ctx))
    try:
        for piece in reply:
            if stopped.is_set():
                reply.close()
                break
            dialog.post_message(SummaryGrew(piece))
    finally:
        dialog.post_message(SummaryEnded())
