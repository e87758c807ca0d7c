"""The one screen that matters: a conversation, the chats beside it, and the keys and commands for both.

What a key or a command does in the conversation is in `conversing`, where panes are in `panes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import SystemCommand
from textual.binding import Binding, BindingType

from localllm.chat import commands
from localllm.chat.conversation import Conversation, Given
from localllm.chat.settings import sampling_of
from localllm.chat.store import Store
from localllm.errors import LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.tui import wording
from localllm.tui.backstage import Backstage
from localllm.tui.branches import Branches
from localllm.tui.loader import OpenModel, Wanted
from localllm.tui.messages import (
    ChatChosen,
    ChatDropped,
    ChatExported,
    ChatOpened,
    ChatsFound,
    ChatsLeft,
    ChatsListed,
    DownloadEnded,
    DownloadMoved,
    MachineWatched,
    ModelNamed,
    PromptSent,
    PromptsFound,
    Sampled,
    VersionWanted,
)
from localllm.tui.orders import Orders
from localllm.tui.overflow import Overflow
from localllm.tui.screens.conversing import Conversing
from localllm.tui.screens.memory import MemoryScreen
from localllm.tui.switching import Switching
from localllm.tui.vitals import History, SwapWatch
from localllm.tui.widgets.memory_panel import MemoryPanel

if TYPE_CHECKING:
    from localllm.tui.screens.settings import Chosen


class ChatScreen(Conversing):
    """The conversation and what surrounds it."""

    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop"),
        Binding("escape", "leave_edit", "Leave it"),
        Binding("escape", "close_panels", "Back"),
        Binding("ctrl+g", "go_on", "Go on"),
        Binding("ctrl+r", "answer_again", "Again"),
        Binding("ctrl+n", "new_chat", "New"),
        Binding("f3", "toggle_chats", "Chats"),
        Binding("f4", "edit", "Edit"),
        # Before the prompt, whose own F7 selects all.
        Binding("f7", "settings", "Settings", show=False, priority=True),
        Binding("f8", "models", "Models", show=False),
        Binding("f9", "show_memory", "All memory", show=False),
        Binding("f5", "reload", "Load again"),
        # Before the prompt, whose own F6 selects a line.
        Binding("f6", "make_room", "Make room", show=False, priority=True),
        Binding("f1", "app.help", "Keys"),
        Binding("alt+left", "sibling(-1)", "The version before", show=False, priority=True),
        Binding("alt+right", "sibling(1)", "The version after", show=False, priority=True),
        Binding("pageup", "scroll('page_up')", show=False, priority=True),
        Binding("pagedown", "scroll('page_down')", show=False, priority=True),
        Binding("ctrl+home", "scroll('scroll_home')", show=False, priority=True),
        Binding("ctrl+end", "scroll('scroll_end')", show=False, priority=True),
        Binding("ctrl+z", "restore", show=False),
    ]

    def __init__(
        self,
        open_model: OpenModel,
        wanted: Wanted,
        store: Store,
        sampling: Sampling,
        *,
        system: str = "",
        conversation: Conversation | None = None,
        titles: bool = False,
    ) -> None:
        super().__init__(lambda post: Backstage(open_model, wanted, store, sampling, system, post), titles=titles)
        self._dialogue.open(conversation)
        self._orders = Orders(self)
        self._overflow = Overflow(self)
        self._switching = Switching(self, wanted)
        self._branches = Branches(self)
        self.history = History()
        self.last_sample: Sampled | None = None
        self._swap_watch = SwapWatch()

    def _given(self) -> list[Given]:
        """What stands before the next message: all, or what is above the message that is edited."""
        edited = self._branches.edited
        if edited is None:
            return super()._given()
        if edited.parent is None:
            return [one for one in self.conversation.given() if not one.nodes]
        return self.conversation.given(until=edited.parent)

    @on(PromptSent)
    def _send(self, event: PromptSent) -> None:
        try:
            call = commands.parse(event.text)
            if call is not None:
                self._branches.give_up()
                self._orders.carry_out(call)
                return
        except LocalLLMError as error:
            self._refuse(event.text, error)
            return
        if self._may_turn() and self._may_answer():
            self._talk.composer.make(event.text)
        else:
            self._talk.prompt.put_back(event.text)

    def _ask(self, text: str) -> None:
        edited = self._branches.take()
        if edited is None:
            super()._ask(text)
        elif edited.role == "user":
            self._dialogue.ask_instead(edited.id, text)
            self._show_conversation(growing=True)
            self._follow()
        else:
            self._behind.archive.keep(self.conversation, self.conversation.add_version(edited.id, text))
            self.show_anew()

    def cost_of_last(self) -> str:
        """What the last reply cost, and how full the context is, in words."""
        return wording.account(self.conversation, self._context_used, self._loader)

    def copy(self, what: str) -> None:
        """Copy the last message, or with `code` its last block of code."""
        self._talk.action_copy_code() if what == "code" else self._talk.action_copy_message()

    def reading_commands(self) -> Iterable[SystemCommand]:
        """What the command palette offers on the conversation as it stands."""
        talk = self._talk
        yield SystemCommand("Find in this chat", "Look for a text", talk.action_find)
        yield SystemCommand("Copy the message", "The current one, or the last reply", talk.action_copy_message)
        yield SystemCommand("Copy the code", "The last block of it", talk.action_copy_code)
        yield SystemCommand("Fold or unfold", "The thought or the files of a message", talk.action_fold)

    def attach(self, path: Path) -> None:
        """Put a file into the next message."""
        self._talk.composer.attach(path)

    def action_answer_again(self) -> None:
        """Make another reply to the message that was jumped to, or the last one."""
        self._branches.answer_again()

    def answer_what_is_open(self) -> None:
        """Go on with the last reply if it ended early; else answer the last message."""
        if self._dialogue.can_go_on():
            self.action_go_on()
        elif self._dialogue.can_answer_again():
            self.action_answer_again()

    def choose_model(self, name: str) -> None:
        """Load the model of that name, or show those there are."""
        if name:
            self._switching.name(name)
        else:
            self.action_models()

    @property
    def download_line(self) -> str:
        """How far the download is."""
        return self._switching.line

    def action_models(self) -> None:
        """Show the models that can be loaded or downloaded."""
        self._switching.offer()

    def action_settings(self) -> None:
        """Show the settings of this chat."""
        model = self.model
        if model is None:
            self.notify("The settings need a model that is loaded.", severity="warning")
        elif self._may_turn():
            from localllm.tui.screens.settings import SettingsScreen

            self.app.push_screen(SettingsScreen(self, model.plan, self._loader.took_s), self._settle)

    def _settle(self, chosen: Chosen | None) -> None:
        """Use the settings that the person chose for this chat."""
        if chosen is None or not self._may_turn():
            return
        conversation = self.conversation
        conversation.settings = chosen.settled.into(conversation.settings)
        self.keep_settings()
        if chosen.system != conversation.system:
            self.change_system(chosen.system)
        if self.model is not None and chosen.settled.options != self.model.plan.options:
            self.load_with(chosen.settled.options)
        self._look_ahead()

    @on(ModelNamed)
    def _model_named(self, event: ModelNamed) -> None:
        self._switching.load(event.name, event.path)

    @on(DownloadMoved)
    def _download_moved(self, event: DownloadMoved) -> None:
        self._switching.moved(event)
        self._refresh_status()

    @on(DownloadEnded)
    def _download_ended(self, event: DownloadEnded) -> None:
        self._switching.ended(event)
        self._refresh_status()

    def may_turn(self) -> bool:
        """Whether no reply is made; says so if one is."""
        return self._may_turn()

    def change_system(self, text: str) -> None:
        """Another system prompt for this chat, from the next message on."""
        self.conversation.system = text
        self._behind.archive.keep_system(self.conversation.id, text)

    @property
    def sampling(self) -> Sampling:
        """How tokens are picked in this chat.

        Raises:
            BadSettings: the settings of this chat are wrong.
        """
        return sampling_of(self.conversation.settings, self._dialogue.sampling)

    def export(self, path: Path) -> None:
        """Write this chat to a file that is not there yet."""
        self._behind.archive.export(self.conversation, path)

    def open_chat(self, name: str) -> None:
        """Open the chat that goes by this name."""
        if self._may_turn():
            self._behind.archive.open_named(name)

    def drop_chat(self) -> None:
        """Delete the chat that is open."""
        self.post_message(ChatDropped(self.conversation.id, self.conversation.title))

    def keep_settings(self) -> None:
        """Remember the settings of the chat that is open."""
        self._behind.archive.keep_settings(self.conversation.id, dict(self.conversation.settings))

    def action_make_room(self) -> None:
        """Choose what to send less of, or a larger context."""
        if self._may_turn() and self._may_answer():
            self._overflow.offer()

    def action_send_all(self) -> None:
        """Send again what is above the line."""
        first = self.conversation.first_sent()
        if first is not None and self._may_turn():
            self.conversation.mend(first.id)
            self.keep_settings()
            self._show_conversation()

    def action_sibling(self, step: int) -> None:
        """Show the version before or after of the message that was jumped to, or of the last one."""
        if not self.busy:
            self._branches.switch(step)

    @on(VersionWanted)
    def _version_wanted(self, event: VersionWanted) -> None:
        if self._may_turn():
            self._branches.switch(event.step, event.message)

    def action_edit(self) -> None:
        """Edit the message that was jumped to, or the last question."""
        if self._may_turn():
            self._try(self._branches.edit)

    def ask_instead(self, text: str) -> None:
        """Ask the last question in other words.

        Raises:
            BadCommand: there is none.
        """
        if self._may_turn() and self._may_answer():
            self._branches.edit()
            self._ask(text)

    def action_leave_edit(self) -> None:
        """The message that is edited stays as it is."""
        self._branches.give_up()

    def undo(self) -> None:
        """Take the last question back, which stays as a branch."""
        if self._may_turn():
            self._branches.undo()

    def action_fork(self) -> None:
        """Begin a new chat that holds this one, up to the message that was jumped to."""
        if self._may_turn():
            self._try(self._branches.fork)

    def _try(self, deed: Callable[[], None]) -> None:
        try:
            deed()
        except LocalLLMError as error:
            self.notify(error.message, severity="warning")

    @property
    def jumped_to(self) -> str:
        """The id of the message that the person jumped to; empty for none."""
        current = self._talk.transcript.current
        return current.message if current is not None else ""

    @property
    def draft(self) -> str:
        """What is in the prompt."""
        return self._talk.prompt.text

    def write(self, text: str, *, title: str = "") -> None:
        """Put a text into the prompt, and say above it what it is."""
        prompt = self._talk.prompt
        prompt.text = text
        prompt.move_cursor(prompt.document.end)
        prompt.border_title = title
        prompt.focus()
        self.refresh_bindings()

    def keep_leaf(self) -> None:
        """Remember which message is shown last."""
        self._behind.archive.show(self.conversation.id, self.conversation.leaf)

    def keep_fork(self, fork: Conversation) -> None:
        """Write a new chat, and open it."""
        self._behind.archive.keep_fork(fork)

    @on(MachineWatched)
    def _machine_watched(self, event: MachineWatched) -> None:
        warning = self._swap_watch.look(event.machine)
        if warning:
            self.notify(f"{warning} F9 shows where it goes.", severity="warning", timeout=20)

    @on(Sampled)
    def _sampled(self, event: Sampled) -> None:
        self.last_sample = event
        self.history.add(event.memory, event.machine)
        if isinstance(self.app.screen, MemoryScreen):
            self.app.screen.show(event)
        self.query_one(MemoryPanel).show(event.memory)
        self._context_used = event.context_used
        self._refresh_status()

    @on(ChatsListed)
    def _chats_listed(self, event: ChatsListed) -> None:
        for entry in event.chats:
            if entry.id == self.conversation.id:
                self.conversation.listed_as(entry.title)
        self.sidebar.show(event.chats, self.conversation.id)
        self._talk.greet(len(event.chats))

    @on(ChatExported)
    def _chat_exported(self, event: ChatExported) -> None:
        self.notify(f"{event.path}: {event.messages} messages", markup=False)

    @on(ChatsFound)
    def _chats_found(self, event: ChatsFound) -> None:
        self.sidebar.found(event.words, event.hits)

    @on(PromptsFound)
    def _prompts_found(self, event: PromptsFound) -> None:
        self._talk.prompt.remember(event.prompts)

    @on(ChatChosen)
    def _choose_chat(self, event: ChatChosen) -> None:
        if self._may_turn():
            self._behind.archive.open(event.chat_id, event.message)
            self._leave_chats()

    @on(ChatOpened)
    def _chat_opened(self, event: ChatOpened) -> None:
        if self._may_turn():
            self._turn_to(event.conversation)
            if event.message is not None:
                # Only then the transcript has a size, which it lacks while the welcome is in its place.
                self.call_after_refresh(self._talk.transcript.go_to, event.message)

    def action_new_chat(self) -> None:
        """Begin a new chat."""
        if self._may_turn():
            self._turn_to(None)

    def _turn_to(self, conversation: Conversation | None) -> None:
        self._branches.give_up()
        self._dialogue.open(conversation)
        self._stats = None
        self._show_conversation()
        self._behind.archive.list()
        self._refresh_status()
        self.refresh_bindings()
        self._talk.prompt.focus()

    @on(ChatsLeft)
    def _leave_chats(self) -> None:
        self._talk.prompt.focus()
        self.action_close_panels()

    @on(ChatDropped)
    def _drop_chat(self, event: ChatDropped) -> None:
        is_open = event.chat_id == self.conversation.id
        if not is_open or self._may_turn():
            self.sidebar.delete(event.chat_id, event.title)
            if is_open:
                self._turn_to(None)

    def action_restore(self) -> None:
        """Undo the last deletion of a chat."""
        self.sidebar.restore()

    @property
    def memory_is_seen(self) -> bool:
        """Whether somebody looks at the memory."""
        return super().memory_is_seen or isinstance(self.app.screen, MemoryScreen)

    def context_filled(self) -> None:
        """Offer what can be done about it."""
        self._overflow.offer()

    def action_show_memory(self) -> None:
        """Show where the memory goes on a whole screen."""
        self.app.push_screen(MemoryScreen(self, self.history), self._load_so)
        self.panes_changed()

    def _load_so(self, options: Options | None) -> None:
        self.panes_changed()
        if options is not None and self._may_turn():
            self.load_with(options)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Textual's: which keys mean something now."""
        if action == "stop":
            return self.busy
        if action == "leave_edit":
            return self._branches.edited is not None and not self.busy
        if action == "edit":
            return not self.busy and bool(self.conversation.nodes)
        if action == "close_panels":
            return not self.busy and any(panel.display for panel in self.query(".-over"))
        if action == "go_on":
            return self._dialogue.can_go_on()
        if action == "answer_again":
            return self._dialogue.can_answer_again()
        if action == "reload":
            return self._loader.state == "failed"
        return super().check_action(action, parameters)

    def close(self) -> None:
        """End everything, downloads too. Call it when the app no longer runs."""
        self._switching.close()
        super().close()
