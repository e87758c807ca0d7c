"""The one screen that matters: a conversation, the chats beside it, the memory, and the keys for them.

Wiring only: each key and each message goes to the part whose matter it is, and the parts find each other and what they
show on by this screen. Where panes are is in `panes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.message import Message

from localllm.chat.conversation import Conversation
from localllm.chat.settings import sampling_of
from localllm.chat.store import Store
from localllm.errors import LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.runtime.sampling import Sampling
from localllm.tui import wording
from localllm.tui.backstage import Backstage
from localllm.tui.branches import Branches
from localllm.tui.chats import Chats
from localllm.tui.deliveries import deliveries
from localllm.tui.drafts import DraftKeeper
from localllm.tui.loaded import Loaded
from localllm.tui.loader import OpenModel, Wanted
from localllm.tui.meaning import KEYS, meaning
from localllm.tui.overflow import Overflow
from localllm.tui.replies import Replies
from localllm.tui.resuming import Resuming
from localllm.tui.screens.panes import Panes
from localllm.tui.sending import Sending
from localllm.tui.switching import Switching
from localllm.tui.warming_up import start_warming_up
from localllm.tui.watching import Watching
from localllm.tui.widgets.key_line import KeyLine
from localllm.tui.widgets.memory_panel import MemoryPanel
from localllm.tui.widgets.sidebar import Sidebar
from localllm.tui.widgets.status_line import StatusLine
from localllm.tui.widgets.talk import Talk


class ChatScreen(Panes):
    """The conversation and what surrounds it."""

    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(
        self,
        open_model: OpenModel,
        wanted: Wanted,
        store: Store,
        sampling: Sampling,
        *,
        system: str = "",
        usual: Options | None = None,
        conversation: Conversation | None = None,
        titles: bool = False,
    ) -> None:
        super().__init__()
        self.behind = Backstage(open_model, wanted, store, sampling, system, self)
        self.behind.dialogue.open(conversation)
        self.replies = Replies(self, self.behind, titles=titles)
        self.chats = Chats(self, self.behind)
        self.loaded = Loaded(self, self.behind)
        self.resuming = Resuming(self, self.behind, usual or wanted.options)
        self.switching = Switching(self)
        self.overflow = Overflow(self)
        self.branches = Branches(self)
        self.watching = Watching(self)
        self.drafts = DraftKeeper(self, self.behind)
        self.sending = Sending(self, self.behind)
        self._deliveries = deliveries(self)
        self._comparing = False

    def compose(self) -> ComposeResult:
        """Textual's."""
        with Horizontal(id="body"):
            yield Sidebar(self.behind.archive, id="chats")
            yield MemoryPanel(id="memory")
            yield Talk(lambda: self.model, id="talk")
        yield StatusLine(id="status")
        yield KeyLine()

    def on_mount(self) -> None:
        """Textual's: load the model behind the first picture, which has the processor for itself until it is drawn."""
        self.show_conversation()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.behind.start()
        self.drafts.find()
        self.resuming.look()
        start_warming_up(self.crashed, stays=not self.app.is_headless)

    @on(Message)
    def _deliver(self, event: Message) -> None:
        deed = self._deliveries.get(type(event))
        if deed is not None:
            deed(event)

    def close(self) -> None:
        """End everything; the last words reach the disk first. Call it when the app no longer runs."""
        self.switching.close()
        self.drafts.close()
        self.behind.close()

    # What the parts show, and ask of each other.

    @property
    def conversation(self) -> Conversation:
        """The conversation that is open."""
        return self.behind.dialogue.conversation

    @property
    def model(self) -> Responder | None:
        """What answers; None while nothing is loaded."""
        return self.behind.loader.model

    @property
    def sampling(self) -> Sampling:
        """How tokens are picked in this chat.

        Raises:
            BadSettings: the settings of this chat are wrong.
        """
        return sampling_of(self.conversation.settings, self.behind.dialogue.sampling)

    @property
    def busy(self) -> bool:
        """Whether a reply is being made, in whichever chat."""
        return self.replies.busy

    @property
    def grows(self) -> bool:
        """Whether the reply that is being made is one of the open chat."""
        return self.behind.dialogue.grows

    def may_turn(self) -> bool:
        """Whether no reply is made, in whichever chat, and nothing is compared; says so if it is."""
        turn = self.behind.dialogue.turn
        if turn is not None:
            self.notify(wording.still_made(turn, here=self.grows), severity="warning", markup=False)
        return turn is None and self.may_leave()

    def may_switch(self) -> bool:
        """Whether another version may be shown: no reply is made in the open chat. Says so if one is."""
        return not self.grows or self.may_turn()

    def may_leave(self) -> bool:
        """Whether nothing is compared; says so if it is."""
        if self._comparing:
            # A file that goes along, or a model that was named, may be found only now.
            self.notify("A comparison is open, and the chat waits. Esc leaves it.", severity="warning")
        return not self._comparing

    def show_conversation(self) -> None:
        """Show the path of the conversation; a reply to it that is being made grows on."""
        self.talk.show(wording.entries_of(self.conversation), growing=self.grows)
        self.talk.transcript.entitle(self.conversation.title)
        self.replies.show_growing()
        self.sending.look_ahead()

    def show_anew(self, message: str = "") -> None:
        """Another path is to be shown: its end, or a message of it."""
        self.replies.show_stats_of(self.conversation)
        self.show_conversation()
        if message:
            self.talk.transcript.go_to(message)
        self.refresh_status()
        self.refresh_bindings()

    def refresh_status(self) -> None:
        """Show how things stand."""
        self.query_one(StatusLine).show(replace(self.replies.status(), download=self.switching.line))

    def panes_changed(self) -> None:
        """Memory is sampled while somebody looks, and while a reply is made."""
        self.behind.sampler.want(self.busy or self.watching.is_seen)

    def crashed(self, error: BaseException) -> None:
        """A thread met a mistake of ours."""
        self.behind.crashed(error)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: which keys mean something now."""
        means = meaning(self, action)
        return super().check_action(action, parameters) if means is None else means

    def action_stop(self) -> None:
        """Stop the reply."""
        self.replies.stop()

    def action_leave_edit(self) -> None:
        """The message that is edited stays as it is."""
        self.branches.give_up()

    def action_keep_model(self) -> None:
        """Keep what is loaded for this chat, which was used with something else."""
        self.resuming.keep()

    def action_tidy(self) -> None:
        """Take away what the app had to say."""
        self.talk.tidy()

    def action_go_on(self) -> None:
        """Go on with a reply that ended early."""
        self.replies.go_on()

    def action_tell_ended(self) -> None:
        """Say why nothing goes on: the key of `go_on`, while that means nothing."""
        self.replies.go_on()

    def action_answer_again(self) -> None:
        """Make another reply to the message that was jumped to, or the last one."""
        self.branches.answer_again()

    def action_new_chat(self) -> None:
        """Begin a new chat."""
        self.chats.new()

    def action_restore(self) -> None:
        """Undo the last deletion of a chat."""
        self.sidebar.restore()

    def action_edit(self) -> None:
        """Edit the message that was jumped to, or the last question."""
        self._try(self.branches.edit)

    def action_fork(self) -> None:
        """Begin a new chat that holds this one, up to the message that was jumped to."""
        self._try(self.branches.fork)

    def _try(self, deed: Callable[[], None]) -> None:
        try:
            if self.may_turn():
                deed()
        except LocalLLMError as error:
            self.notify(error.message, severity="warning")

    def action_sibling(self, step: int) -> None:
        """Show the version before or after of the message that was jumped to, or of the last one."""
        if self.may_switch():
            self.branches.switch(step)

    def action_settings(self) -> None:
        """Show the settings of this chat."""
        self.loaded.show_settings()

    def action_models(self) -> None:
        """Show the models that can be loaded or downloaded."""
        self.switching.offer()

    def action_show_memory(self) -> None:
        """Show where the memory goes on a whole screen."""
        self.watching.show_all()

    def action_compare(self, model: str = "") -> None:
        """Ask the model of this chat and another one, which may be named, the same."""
        from localllm.tui.screens.compare import CompareScreen

        if self.may_turn():
            self._comparing = True
            self.app.push_screen(CompareScreen(self, model), self._compared)

    def _compared(self, _: None) -> None:
        self._comparing = False
        self.panes_changed()

    def action_reload(self) -> None:
        """Load the model again."""
        # The palette offers it at any time, and it would end a reply that is being made.
        if self.may_turn():
            self.loaded.load_again()

    def action_make_room(self) -> None:
        """Choose what to send less of, or a larger context."""
        if self.may_turn() and self.loaded.may_answer():
            self.overflow.offer()
