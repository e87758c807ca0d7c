"""The middle of the screen: the conversation, and where the person writes.

Shows what it is given; knows nothing of who makes the reply or keeps the words.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from localllm.tui.entries import Entry, NoticeEntry, ReplyEntry, UserEntry
from localllm.tui.messages import BackspaceAtStart, ChoicePicked
from localllm.tui.widgets.attachment_line import AttachmentLine
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.suggestions import Suggestions
from localllm.tui.widgets.transcript import Transcript
from localllm.tui.widgets.welcome import Welcome


class Talk(Vertical):
    """A transcript, or a welcome while it is empty, above a prompt."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.transcript = Transcript(id="transcript")
        self.attachments = AttachmentLine(id="attachments")
        self._suggestions = Suggestions(id="suggestions")
        self.prompt = Prompt(self._suggestions, id="prompt")
        self._welcome = Welcome(id="welcome")
        self._reply: ReplyEntry | None = None

    def compose(self) -> ComposeResult:
        """Textual's."""
        yield self._welcome
        yield self.transcript
        with Horizontal(classes="measure"):
            yield self._suggestions
        with Horizontal(classes="measure"):
            yield self.attachments
        with Horizontal(classes="measure"):
            yield self.prompt

    def show(self, entries: Sequence[Entry], *, growing: bool = False) -> None:
        """Show a conversation; its last entry is a reply that grows on, if `growing`."""
        self.transcript.show(entries)
        last = entries[-1] if growing else None
        self._reply = last if isinstance(last, ReplyEntry) else None
        self._uncover()

    def ask(self, text: str) -> None:
        """Add what the person said, and a reply that is to come."""
        self.transcript.append(UserEntry(text))
        self._reply = ReplyEntry()
        self.transcript.append(self._reply)
        self._uncover()

    def tell(self, notice: NoticeEntry) -> None:
        """Add something that the app has to say."""
        self.transcript.append(notice)
        self._uncover()

    def grow(self, text: str, note: str, *, alarming: bool = False) -> None:
        """Add `text` to the reply in the making, with `note` below it."""
        reply = self._reply
        if reply is not None and (text or note != reply.note):
            reply.grow(text)
            reply.annotate(note, alarming=alarming)
            self.transcript.redraw(reply)

    def end(self, note: str, *, alarming: bool) -> None:
        """The reply is made; `note` says how it ended."""
        self.grow("", note, alarming=alarming)
        self._reply = None

    def greet(self, chats: int) -> None:
        """Tell the welcome how many chats there are."""
        self._welcome.show(chats)

    @on(ChoicePicked)
    def _complete(self, event: ChoicePicked) -> None:
        event.stop()
        self.prompt.pick(event.choice)

    @on(BackspaceAtStart)
    def _take_out(self, event: BackspaceAtStart) -> None:
        event.stop()
        self.attachments.drop_last()

    def _uncover(self) -> None:
        talking = bool(self.transcript.entries)
        self.transcript.display = talking
        self._welcome.display = not talking
