"""What the person writes on its way: a command, a message, or one in the place of another; and what it will cost.

Knows the screen only as what shows and answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localllm.chat import commands
from localllm.chat.attachments import joined
from localllm.chat.conversation import Given
from localllm.errors import LocalLLMError
from localllm.tui import wording
from localllm.tui.backstage import Backstage
from localllm.tui.messages import LookedAhead, MessageMade
from localllm.tui.orders import Orders
from localllm.tui.outlook import Question, cached, tokens_of

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Sending:
    """Over one screen. All methods are for the app's thread."""

    def __init__(self, screen: ChatScreen, behind: Backstage) -> None:
        self._screen = screen
        self._behind = behind
        self.orders = Orders(screen)

    def send(self, text: str) -> None:
        """Carry out the command that the prompt holds, or make a message of it; what cannot be sent goes back."""
        self._screen.uncover()
        try:
            call = commands.parse(text)
            if call is not None:
                self._screen.talk.tidy()
                self._screen.branches.give_up()
                self.orders.carry_out(call)
                return
        except LocalLLMError as error:
            self._screen.talk.prompt.put_back_command(text)
            self._screen.talk.tidy()
            self._screen.talk.tell(wording.notice(error))
            return
        if self._screen.may_turn() and self._screen.loaded.may_answer():
            self._screen.talk.tidy()
            self._screen.talk.composer.make(text)
        else:
            self._screen.talk.prompt.put_back(text)

    def made(self, message: MessageMade) -> None:
        """A message is ready to be sent."""
        if self._screen.may_turn():
            self._ask(message.text)
        else:
            self._screen.talk.composer.give_back(message)
        # The prompt was empty before: nothing else tells that this is no draft any more.
        self._screen.drafts.edited()

    def _ask(self, text: str) -> None:
        edited = self._screen.branches.take()
        if edited is None:
            self._screen.replies.ask(text)
        elif edited.role == "user":
            self._screen.replies.ask_instead(edited, text)
        else:
            self._screen.chats.keep_version(edited, text)

    def ask_instead(self, text: str) -> None:
        """Ask the last question in other words, with the files that it had.

        Raises:
            BadCommand: there is none.
        """
        if self._screen.may_turn() and self._screen.loaded.may_answer():
            self._screen.branches.edit()
            self._screen.talk.prompt.clear()
            self._screen.talk.composer.make(commands.escaped(text))

    def given(self) -> list[Given]:
        """What stands before the next message: all, or what is above the message that is edited."""
        edited, conversation = self._screen.branches.edited, self._screen.conversation
        if edited is None:
            return conversation.given()
        if edited.parent is None:
            return [one for one in conversation.given() if not one.nodes]
        return conversation.given(until=edited.parent)

    def edited(self) -> None:
        """What the person is writing changed, or the files that go along."""
        if not self._screen.talk.prompt.text:
            self._screen.talk.prompt.border_subtitle = ""
        self._screen.drafts.edited()
        self.look_ahead()

    def look_ahead(self) -> None:
        """Ask what is in the cache, and what the next message will cost."""
        if self._screen.busy:
            return
        written = self._screen.talk.prompt.text
        draft = commands.unescaped(written.strip())
        is_command = draft.startswith("/") and not written.startswith(commands.ESCAPE)
        sent = "" if is_command else joined(self._screen.talk.composer.files(), draft)
        self._behind.outlook.ask(Question(tuple(self.given()), sent))

    def looked_ahead(self, event: LookedAhead) -> None:
        """Show what was asked, if the conversation is still the same."""
        given, forecast = event.question.given, event.forecast
        if self._screen.busy or list(given) != self.given():
            return
        talk = self._screen.talk
        if self._screen.branches.edited is None:
            self._screen.replies.counted(tokens_of(given, forecast))
        talk.transcript.show_cached(cached(given, forecast))
        rate = wording.prefill_rate(self._screen.conversation)
        has_draft = event.question.draft and talk.prompt.text
        talk.prompt.border_subtitle = wording.outlook(forecast, event.n_ctx, rate) if has_draft else ""
