"""A conversation on the screen: messages go out, a reply grows, and what goes wrong is said.

Turns what the person writes into calls of the dialogue, and what happens into what is seen. Knows no model and no SQL,
and nothing of the other chats.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message

from localllm.chat import commands
from localllm.chat.conversation import Conversation, Given, Node
from localllm.errors import ContextFull, EngineDied, LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.runtime.types import Stats
from localllm.tui import background, markdown, wording
from localllm.tui.backstage import Backstage
from localllm.tui.entries import NoticeEntry
from localllm.tui.loader import Wanted
from localllm.tui.messages import (
    Crashed,
    Failed,
    LookedAhead,
    MessageMade,
    MessageRefused,
    ModelChanged,
    ModelLost,
    PromptEdited,
    ReplyBegan,
    ReplyEnded,
)
from localllm.tui.outlook import Question, cached
from localllm.tui.screens.panes import Panes
from localllm.tui.widgets.key_line import KeyLine
from localllm.tui.widgets.memory_panel import MemoryPanel
from localllm.tui.widgets.sidebar import Sidebar
from localllm.tui.widgets.status_line import StatusLine
from localllm.tui.widgets.talk import Talk

TICK_S = 0.1
"""How often a growing reply is drawn."""

SHARE = 6
"""Drawing takes at most one part in this many of the time, however long the open block is."""


class Conversing(Panes):
    """The panes, with a conversation that is open and at most one reply in the making."""

    def __init__(self, behind: Callable[[Callable[[Message], object]], Backstage], *, titles: bool) -> None:
        super().__init__()
        self._titles = titles
        self._behind = behind(self.post_message)
        self._loader, self._dialogue = self._behind.loader, self._behind.dialogue
        self._explained: LocalLLMError | None = None
        self._stats: Stats | None = None
        self._context_used = 0
        self._next_draw = 0.0

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Horizontal(id="body"):
            yield Sidebar(self._behind.archive, id="chats")
            yield Talk(lambda: self._loader.model, id="talk")
            yield MemoryPanel(id="memory")
        yield StatusLine(id="status")
        yield KeyLine()

    def on_mount(self) -> None:
        """Textual's: load the model behind the first picture."""
        self._ticker = self.set_interval(TICK_S, self._tick, pause=True)
        self._show_conversation()
        self._behind.start()
        self.call_after_refresh(background.start, self._warm_up, "warm up", self._behind.crashed)

    def _warm_up(self) -> None:
        markdown.warm_up()
        if not self.app.is_headless:
            # What is imported stays. Walking over it in each full collection would stop the app for 40 ms.
            gc.freeze()

    def panes_changed(self) -> None:
        """Memory is sampled while somebody looks, and while a reply is made."""
        self._behind.sampler.want(self.busy or self.memory_is_seen)

    @property
    def memory_is_seen(self) -> bool:
        """Whether somebody looks at the memory."""
        return self.query_one(MemoryPanel).display

    def _show_conversation(self, *, growing: bool = False) -> None:
        self._talk.show(wording.entries_of(self.conversation), growing=growing)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Ask what is in the cache, and what the next message will cost."""
        if not self.busy:
            draft = commands.unescaped(self._talk.prompt.text.strip())
            is_command = draft.startswith("/") and not self._talk.prompt.text.startswith(commands.ESCAPE)
            self._behind.outlook.ask(Question(tuple(self._given()), "" if is_command else draft))

    @on(LookedAhead)
    def _looked_ahead(self, event: LookedAhead) -> None:
        given, forecast = event.question.given, event.forecast
        if self.busy or list(given) != self._given():
            return
        self._talk.transcript.show_cached(cached(given, forecast))
        rate = wording.prefill_rate(self.conversation)
        self._talk.prompt.border_subtitle = (
            wording.outlook(forecast, event.n_ctx, rate) if event.question.draft and self._talk.prompt.text else ""
        )

    def _refresh_status(self) -> None:
        following = self._talk.transcript.following
        status = wording.status(self._loader, self._dialogue.turn, self._stats, self._context_used, following=following)
        self.query_one(StatusLine).show(replace(status, download=self.download_line))

    @on(MessageMade)
    def _message_made(self, event: MessageMade) -> None:
        if not self._may_turn():
            self._talk.composer.give_back(event)
        else:
            self._ask(event.text)

    def _ask(self, text: str) -> None:
        self._dialogue.send(text)
        question, reply = self.conversation.path()[-2:]
        self._talk.ask(question, reply)
        self._follow()

    def _given(self) -> list[Given]:
        """What stands before the next message."""
        return self.conversation.given()

    def context_filled(self) -> None:
        """The conversation has outgrown the context."""

    @on(MessageRefused)
    def _message_refused(self, event: MessageRefused) -> None:
        self._talk.tell(wording.notice(event.error))

    def _refuse(self, text: str, error: LocalLLMError) -> None:
        """Give back what was written, and say why."""
        self._talk.prompt.put_back(text)
        self._talk.tell(wording.notice(error))

    def tell(self, entry: NoticeEntry) -> None:
        """Say something in the conversation that is no part of it."""
        self._talk.tell(entry)

    @property
    def download_line(self) -> str:
        """How far a download is that goes on meanwhile; empty for none."""
        return ""

    @on(PromptEdited)
    def _prompt_edited(self, event: PromptEdited) -> None:
        if not event.text:
            self._talk.prompt.border_subtitle = ""
        self._look_ahead()

    def _follow(self) -> None:
        """Show the reply that is being made as it grows."""
        self._stats = None
        self._behind.titler.stop()
        self._ticker.resume()
        self.panes_changed()
        self._draw_reply()
        self.refresh_bindings()

    def _tick(self) -> None:
        began = time.monotonic()
        if began >= self._next_draw:
            self._draw_reply()
            self._next_draw = began + SHARE * (time.monotonic() - began)

    def _draw_reply(self) -> None:
        turn = self._dialogue.turn
        if turn is not None:
            self._talk.grow(self._dialogue.take(), wording.waiting_note(turn))
        self._refresh_status()

    @on(ReplyBegan)
    def _reply_began(self, event: ReplyBegan) -> None:
        if event.turn is self._dialogue.turn:
            model = self._loader.model
            self._talk.begin(model.info.opens_thought if model is not None else "")
            self._draw_reply()
            self._behind.archive.list()

    @on(ReplyEnded)
    def _reply_ended(self, event: ReplyEnded) -> None:
        turn = event.turn
        self._ticker.pause()
        self._draw_reply()
        node = self._dialogue.finish()
        self._stats = turn.stats
        self.panes_changed()
        if node is not None:
            note = wording.ending_note(node, self.conversation.siblings(node.id))
            self._talk.end(note, alarming=node.state == "partial")
            self._name_chat(node)
        else:
            self._talk.end(wording.NOT_ANSWERED if turn.stopped else "", alarming=True, withdrawn=True)
            if self.conversation.leaf != turn.task.reply.parent:
                self.show_anew()  # the reply that was there before
        self._explain(turn.error)
        self._explain(turn.store_error)
        if isinstance(turn.error, ContextFull) or (turn.stats is not None and turn.stats.stop_reason == "context"):
            self.context_filled()
        if turn.stats is not None:
            self._context_used = turn.stats.prompt_tokens + turn.stats.completion_tokens
        self._refresh_status()
        self.refresh_bindings()
        self._behind.archive.list()
        self._look_ahead()

    def _name_chat(self, reply: Node) -> None:
        """Have the model name the chat after its first reply, if it is to."""
        conversation, model = self.conversation, self._loader.model
        is_first = len(conversation.nodes) == 2 and not conversation.given_title
        if self._titles and is_first and reply.state == "done" and model is not None:
            self._behind.titler.begin(model, conversation.id, conversation.messages())

    def _explain(self, error: LocalLLMError | None) -> None:
        """Say what went wrong, once."""
        if isinstance(error, EngineDied):
            self._loader.fail(error)
        elif error is not None and error is not self._loader.error:
            self._talk.tell(wording.notice(error))

    def action_stop(self) -> None:
        """Stop the reply."""
        self.stop_reply()

    @property
    def conversation(self) -> Conversation:
        """The conversation that is open."""
        return self._dialogue.conversation

    @property
    def busy(self) -> bool:
        """Whether a reply is being made."""
        return self._dialogue.turn is not None

    def stop_reply(self) -> bool:
        """Stop the reply, if one is being made."""
        stopped = self._dialogue.stop()
        self._draw_reply()
        return stopped

    def action_go_on(self) -> None:
        """Go on with a reply that ended early; says so if none did."""
        if not self._may_turn():
            return
        if not self._dialogue.can_go_on():
            self.notify("No reply here ended early.", severity="warning")
        elif self._may_answer():
            self._dialogue.go_on()
            self._show_conversation(growing=True)
            self._follow()

    def ask_again(self, text: str) -> None:
        """Ask `text` at the end of what is shown now."""
        self._show_conversation()
        self._ask(text)

    @property
    def model(self) -> Responder | None:
        """What answers; None while nothing is loaded."""
        return self._loader.model

    def load(self, wanted: Wanted) -> None:
        """Load this instead of what is loaded."""
        self._loader.start(wanted)

    def load_with(self, options: Options) -> None:
        """Load the model again with other options."""
        self.load(replace(self._loader.wanted, options=options))

    def crashed(self, error: BaseException) -> None:
        """A thread met a mistake of ours."""
        self._behind.crashed(error)

    def _may_answer(self) -> bool:
        if self._loader.state == "failed":
            self.notify("No model is loaded. F5 loads it again.", severity="warning")
        return self._loader.state != "failed"

    def show_anew(self, message: str = "") -> None:
        """Another path is to be shown: its end, or a message of it."""
        last = self.conversation.path()[-1:]
        self._stats = last[0].stats if last else None
        self._show_conversation()
        if message:
            self._talk.transcript.go_to(message)
        self._refresh_status()
        self.refresh_bindings()

    def answer_question(self, question_id: str | None) -> None:
        """Make another reply to a question; None is the last one, and if there is none that is said."""
        if not self._may_turn():
            return
        if not self._dialogue.can_answer_again():
            self.notify("There is no question to answer yet.", severity="warning")
        elif self._may_answer():
            self._dialogue.answer_again(question_id)
            self._show_conversation(growing=True)
            self._follow()

    @on(ModelChanged)
    def _model_changed(self) -> None:
        loader = self._loader
        if loader.error is not None and loader.error is not self._explained:
            self._explained = loader.error
            self._talk.tell(wording.model_notice(loader.error))
        if loader.state != "ready":
            self.query_one(MemoryPanel).show(None)
            self._talk.transcript.show_cached(frozenset())
        else:
            self._behind.sampler.now()
            self._look_ahead()
        self._refresh_status()
        if loader.state != "loading" or not loader.fraction:
            self.refresh_bindings()

    @on(ModelLost)
    def _model_lost(self, event: ModelLost) -> None:
        self._explain(event.error)

    def action_reload(self) -> None:
        """Load the model again."""
        self._loader.start()

    def _may_turn(self) -> bool:
        if self.busy:
            self.notify("The reply is still being made. Esc stops it.", severity="warning")
        return not self.busy

    @on(Failed)
    def _failed(self, event: Failed) -> None:
        self._explain(event.error)

    @on(Crashed)
    def _raise(self, event: Crashed) -> None:
        raise event.error

    def close(self) -> None:
        """End everything; the last words reach the disk first. Call it when the app no longer runs."""
        self._behind.close()
