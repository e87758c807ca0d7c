"""The reply in the making, on the screen: it is asked for, grows, ends, is stopped and goes on.

Turns what happens to it into what is seen; the rules of who may do what when are the dialogue's. Knows no model and no
SQL, and nothing of the other chats.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.timer import Timer

from localllm.chat.conversation import Conversation, Node
from localllm.errors import BadStore, EngineDied
from localllm.runtime.types import Stats
from localllm.tui import wording
from localllm.tui.backstage import Backstage
from localllm.tui.entries import GAP
from localllm.tui.pace import Pace
from localllm.tui.turn import Turn
from localllm.tui.widgets.status_line import Status
from localllm.tui.wordless import why_wordless

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Replies:
    """Over one screen, at most one reply at a time; with `titles` the model names a chat after its first. All methods
    are for the app's thread."""

    def __init__(self, screen: ChatScreen, behind: Backstage, *, titles: bool) -> None:
        self._screen = screen
        self._behind = behind
        self._dialogue = behind.dialogue
        self._titles = titles
        self._stats: Stats | None = None
        self._next_frame: Timer | None = None
        self._pace = Pace()
        self._due = 0.0
        """When the next frame may be drawn, by the monotonic clock."""
        self.context_used = 0
        """Tokens in the KV cache, whichever chat they are of, as far as they are known."""
        self._chat_tokens = 0
        """Tokens of the open chat, as far as they are known."""

    @property
    def busy(self) -> bool:
        """Whether a reply is being made, in whichever chat."""
        return self._dialogue.turn is not None

    def ask(self, text: str) -> None:
        """Send a message after what is shown, and have it answered. Only while no reply is made."""
        self._screen.resuming.load()
        self._dialogue.send(text)
        question, reply = self._dialogue.conversation.path()[-2:]
        self._screen.talk.ask(question, reply)
        self._follow()

    def ask_instead(self, question: Node, text: str) -> None:
        """Ask `text` beside a question that was asked before. Only while no reply is made."""
        self._make(lambda: self._dialogue.ask_instead(question.id, text))

    def answer_again(self, question_id: str | None) -> None:
        """Make another reply to a question; None is the last one, and if there is none that is said."""
        if not self._screen.may_turn():
            return
        if not self._dialogue.can_answer_again():
            self._screen.notify("There is no question to answer yet.", severity="warning")
        elif self._screen.loaded.may_answer():
            self._make(lambda: self._dialogue.answer_again(question_id))

    def go_on(self) -> None:
        """Go on with a reply that ended early; says so if none did."""
        if not self._screen.may_turn():
            return
        if not self._dialogue.can_go_on():
            self._screen.notify("No reply here ended early.", severity="warning")
        elif self._screen.loaded.may_answer():
            self._make(self._dialogue.go_on)

    def answer_what_is_open(self) -> None:
        """Go on with the last reply if it ended early, or answer the last message if no reply follows it."""
        if self._dialogue.can_go_on():
            self.go_on()
        elif any(node.role == "user" for node in self._dialogue.conversation.path()[-1:]):
            self.answer_again(None)

    def stop(self) -> bool:
        """Stop the reply, if one is being made."""
        stopped = self._dialogue.stop()
        self._draw()
        return stopped

    def _make(self, begin: Callable[[], None]) -> None:
        self._screen.resuming.load()
        begin()
        self._screen.show_conversation()
        self._follow()

    def _follow(self) -> None:
        """Show the reply that is being made as it grows."""
        self._stats = None
        self._behind.titler.stop()
        self._pace = Pace()
        self._screen.panes_changed()
        self._tick()
        self._screen.refresh_bindings()

    def _tick(self) -> None:
        self._draw()
        if self._next_frame is not None:
            self._next_frame.stop()
            self._next_frame = None
        pause, turn = self._pace.pause(), self._dialogue.turn
        self._due = time.monotonic() + pause
        if turn is not None and turn.stage != "decode":  # then it tells when there is something to draw
            self._next_frame = self._screen.set_timer(pause, self._tick)

    def grew(self, turn: Turn) -> None:
        """There is more of it: it is drawn at once, or when the next frame is due."""
        if turn is not self._dialogue.turn:
            return
        pause = self._due - time.monotonic()
        if pause <= 0:
            self._tick()
        elif self._next_frame is None:
            self._next_frame = self._screen.set_timer(pause, self._tick)

    def _draw(self) -> None:
        turn = self._dialogue.turn
        if turn is not None:
            said = self._dialogue.take()
            if self._dialogue.grows:
                self._screen.talk.grow(said, wording.waiting_note(turn))
        self._screen.refresh_status()

    def began(self, turn: Turn) -> None:
        """The first piece is there. From now on the chat knows its model: the app may be killed before the end."""
        if turn is self._dialogue.turn:
            self._screen.resuming.used(turn.task.conversation)
            self.show_growing()
            self._behind.archive.list()

    def show_growing(self) -> None:
        """Show how far the reply is that is made in the open chat, if one is."""
        turn, model = self._dialogue.turn, self._behind.loader.model
        if turn is not None and self._dialogue.grows:
            if turn.stage == "decode":
                self._screen.talk.begin(model.info.opens_thought if model is not None else "")
            self._draw()

    def ended(self, turn: Turn) -> None:
        """A reply ended, whatever the reason."""
        if self._next_frame is not None:
            self._next_frame.stop()
        self._draw()
        is_open = self._dialogue.grows
        node = self._dialogue.finish()
        self._screen.panes_changed()
        if is_open:
            self._stats = turn.cost
            self._show_end(turn, node)
        else:
            self._screen.notify(wording.ended_elsewhere(turn, node), markup=False)
        if node is not None:
            self._name_chat(turn.task.conversation, node)
        # What is wrong with another chat is said with its name: here, F6 would make room in this one.
        if is_open or isinstance(turn.error, EngineDied | BadStore):
            self._screen.loaded.explain(turn.error)
        self._screen.loaded.explain(turn.store_error)
        if turn.stats is not None:
            self.context_used = _held(turn.stats)
            if is_open:
                self._chat_tokens = self.context_used
            self._screen.resuming.used(turn.task.conversation)
        self._screen.refresh_status()
        self._screen.refresh_bindings()
        self._behind.archive.list()
        self._screen.sending.look_ahead()

    def _show_end(self, turn: Turn, node: Node | None) -> None:
        conversation, talk = self._dialogue.conversation, self._screen.talk
        if node is not None:
            note = wording.ending_note(node, conversation.siblings(node.id))
            talk.end(note, alarming=node.state == "partial")
            return
        why = why_wordless(turn)
        talk.end(f"{why}{GAP}{wording.what_to_do(turn)}", alarming=True, withdrawn=True)
        if conversation.leaf != turn.task.reply.parent:
            self._screen.show_anew()  # the reply that was there before
            self._screen.notify(f"No other reply: {why}.", severity="warning", markup=False)

    def _name_chat(self, conversation: Conversation, reply: Node) -> None:
        """Have the model name the chat after its first reply, if it is to."""
        model = self._behind.loader.model
        is_first = len(conversation.nodes) == 2 and not conversation.given_title
        if self._titles and is_first and reply.state == "done" and model is not None:
            self._behind.titler.begin(model, conversation.id, conversation.messages())

    def show_stats_of(self, conversation: Conversation) -> None:
        """Another path is shown: its last reply is the one that was made last."""
        last = conversation.path()[-1:]
        self._stats = last[0].stats if last and not self._dialogue.grows else None
        self._chat_tokens = _held(self._stats) if self._stats is not None else 0

    def counted(self, tokens: int) -> None:
        """The model counted what of the open chat is sent: of the last reply's, parts may be left out by now."""
        self._chat_tokens = tokens
        self._screen.refresh_status()

    def account(self) -> str:
        """What the last reply cost, and how full the context is, in words."""
        return wording.account(self._dialogue.conversation, self._chat_tokens, self._behind.loader)

    def status(self) -> Status:
        """How things stand, without downloads."""
        loader, turn, used = self._behind.loader, self._dialogue.turn, self._chat_tokens
        if turn is not None and not self._dialogue.grows:
            status = wording.status(loader, None, self._stats, used, following=True)
            # Of a model that is loading, or is not there, this says more.
            return status if status.doing else replace(status, doing=wording.made_elsewhere(turn))
        following = self._screen.talk.transcript.following
        return wording.status(loader, turn, self._stats, used, following=following)


def _held(stats: Stats) -> int:
    """Tokens of the context after a reply that cost this."""
    return stats.prompt_tokens + stats.completion_tokens
