"""The middle of the screen: the conversation, and where the person writes.

Shows what it is given, and does what needs nothing else: find, copy, fold, jump. Knows nothing of who makes the reply
or keeps the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from localllm.chat.conversation import Node
from localllm.runtime.responder import Responder
from localllm.tui.entries import Entry, NoticeEntry, UserEntry
from localllm.tui.markdown import code_blocks
from localllm.tui.messages import FindChanged, FindClosed, FindMoved, Found
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.widgets.composer import Composer
from localllm.tui.widgets.find_line import FindLine
from localllm.tui.widgets.offer_line import OfferLine
from localllm.tui.widgets.transcript import Transcript
from localllm.tui.widgets.welcome import Welcome


class Talk(Vertical):
    """A transcript, or a welcome while it is empty, above a prompt."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+f", "find", "Find", show=False, priority=True),
        Binding("ctrl+o", "copy_message", "Copy", show=False, priority=True),
        Binding("ctrl+t", "fold", "Fold", show=False, priority=True),
        Binding("alt+up", "jump(-1)", "The message before", show=False, priority=True),
        Binding("alt+down", "jump(1)", "The message after", show=False, priority=True),
        Binding("escape", "leave_message", "Back"),
    ]

    def __init__(self, model: Callable[[], Responder | None], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.transcript = Transcript(id="transcript")
        self._find_line = FindLine(id="find")
        self.offer_line = OfferLine(id="offer")
        self.composer = Composer(model, id="composer")
        self.prompt = self.composer.prompt
        self._welcome = Welcome(id="welcome")
        self._reply: ReplyEntry | None = None
        self.is_covered = False
        """Whether something else has the place of the conversation; the prompt stays."""

    def compose(self) -> ComposeResult:
        """Textual's."""
        yield self._welcome
        yield self.transcript
        with Horizontal(classes="measure"):
            yield self._find_line
        with Horizontal(classes="measure"):
            yield self.offer_line
        yield self.composer

    def cover(self, *, covered: bool) -> None:
        """Give the place of the conversation to something else, or have it back."""
        self.is_covered = covered
        self.set_class(covered, "-covered")
        self._turn_over()

    def show(self, entries: Sequence[Entry], *, growing: bool = False) -> None:
        """Show a conversation; its last entry is a reply that grows on, if `growing`."""
        self.transcript.show(entries)
        last = entries[-1] if growing else None
        self._reply = last if isinstance(last, ReplyEntry) else None
        self._turn_over()

    def ask(self, question: Node, reply: Node) -> None:
        """Add what the person said, and a reply that is to come: it answers what was not answered before, too."""
        for entry in list(self.transcript.entries):
            if isinstance(entry, ReplyEntry) and not entry.message:
                self.transcript.drop(entry)
        self.transcript.append(UserEntry(question.text, question.id))
        self._reply = ReplyEntry(message=reply.id)
        self.transcript.append(self._reply)
        self._turn_over()

    def tell(self, notice: NoticeEntry) -> None:
        """Add something that the app has to say; it stays until the next command or message, or Esc."""
        for told in self._told():
            # What goes wrong with each key that is pressed, as keeping a draft on a full disk, is said once.
            if told.copied_text() == notice.copied_text():
                self.transcript.drop(told)
        self.transcript.append(notice)
        self._turn_over()
        self.screen.refresh_bindings()

    @property
    def has_told(self) -> bool:
        """Whether something that the app had to say can be seen."""
        return not self.is_covered and bool(self._told())

    def tidy(self) -> None:
        """Take away what the app had to say: it is no part of the conversation."""
        for notice in self._told():
            self.transcript.drop(notice)
        self._turn_over()
        self.screen.refresh_bindings()

    def _told(self) -> list[NoticeEntry]:
        return [entry for entry in self.transcript.entries if isinstance(entry, NoticeEntry)]

    def begin(self, opened: str) -> None:
        """The model answers; `opened` is the marker of a thought inside of which it begins."""
        if self._reply is not None:
            self._reply.begin(opened)

    def grow(self, text: str, note: str, *, alarming: bool = False) -> None:
        """Add `text` to the reply in the making, with `note` below it."""
        reply = self._reply
        if reply is not None and (text or note != reply.note):
            reply.grow(text)
            reply.annotate(note, alarming=alarming)
            self.transcript.redraw(reply)

    def end(self, note: str, *, alarming: bool, withdrawn: bool = False) -> None:
        """The reply is made, or `withdrawn` because it never got a word; `note` says how it ended."""
        if self._reply is not None:
            if withdrawn:
                self._reply.message = ""
            self._reply.end()
            self._reply.annotate(note, alarming=alarming)
            self.transcript.redraw(self._reply)
        self._reply = None

    def greet(self, chats: int) -> None:
        """Tell the welcome how many chats there are."""
        self._welcome.show(chats)

    def commands(self) -> Iterable[SystemCommand]:
        """What the command palette offers on the conversation as it stands."""
        yield SystemCommand("Find in this chat", "Look for a text", self.action_find)
        yield SystemCommand("Copy the message", "The current one, or the last reply", self.action_copy_message)
        yield SystemCommand("Copy the code", "The last block of it", self.action_copy_code)
        yield SystemCommand("Fold or unfold", "The thought or the files of a message", self.action_fold)

    def action_find(self) -> None:
        """Let the person say what to find in the conversation."""
        self._find_line.open()

    def find(self, text: str) -> None:
        """Find a text in the conversation."""
        self._find_line.open(text)

    @on(FindChanged)
    def _find(self, event: FindChanged) -> None:
        event.stop()
        self.transcript.find(event.text)

    @on(FindMoved)
    def _find_next(self, event: FindMoved) -> None:
        event.stop()
        self.transcript.find_next(event.step)

    @on(Found)
    def _found(self, event: Found) -> None:
        event.stop()
        self._find_line.show(event)

    @on(FindClosed)
    def _find_no_more(self, event: FindClosed) -> None:
        event.stop()
        self.transcript.find("")
        self.prompt.focus()

    def action_jump(self, step: int) -> None:
        """Go to the message before or after."""
        self.transcript.jump(step)
        self.screen.refresh_bindings()

    def action_leave_message(self) -> None:
        """No message is current any more."""
        self.transcript.leave()
        self.screen.refresh_bindings()

    def action_fold(self) -> None:
        """Fold or unfold the thought or the files of the current message, or of the last that has some."""
        folding = [entry for entry in self._chosen() if entry.folds]
        if folding:
            self.transcript.fold(folding[0])
        else:
            self.notify("No thought and no file is here to fold.")

    def action_copy_message(self) -> None:
        """Copy the current message, or the last reply."""
        self._copy(next((entry.copied_text() for entry in self._chosen(replies=True)), ""), "message")

    def action_copy_code(self) -> None:
        """Copy the last block of code of the current message, or of the conversation."""
        blocks = (code_blocks(entry.copied_text()) for entry in self._chosen(replies=True))
        self._copy(next((found[-1] for found in blocks if found), ""), "block of code")

    def _chosen(self, *, replies: bool = False) -> list[Entry]:
        """The current message, or all, the last first."""
        if self.transcript.current is not None:
            return [self.transcript.current]
        return [entry for entry in reversed(self.transcript.entries) if not replies or isinstance(entry, ReplyEntry)]

    def _copy(self, text: str, what: str) -> None:
        if text:
            self.app.copy_to_clipboard(text)
            self.notify(f"Copied a {what} of {len(text):,} characters.")
        else:
            self.notify(f"There is no {what} to copy.", severity="warning")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: which keys mean something now. Esc stops a reply first, and leaves a message that is edited."""
        if action == "leave_message":
            is_free = self._reply is None and not self.prompt.border_title
            return self.transcript.current is not None and is_free
        return super().check_action(action, parameters)

    def _turn_over(self) -> None:
        talking = bool(self.transcript.entries)
        self.transcript.display = talking and not self.is_covered
        self._welcome.display = not talking and not self.is_covered
