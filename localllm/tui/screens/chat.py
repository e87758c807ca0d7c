"""The one screen that matters: chats on the left, the conversation in the middle, memory on the right.

Turns what the person does into calls of the dialogue, and what happens into what is seen. Knows no model and no SQL.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.screen import Screen

from localllm.chat import commands
from localllm.chat.conversation import Conversation, Given, Node
from localllm.chat.settings import sampling_of
from localllm.chat.store import Store
from localllm.errors import ContextFull, EngineDied, LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Stats
from localllm.tui import background, markdown, wording
from localllm.tui.backstage import Backstage
from localllm.tui.branches import Branches
from localllm.tui.entries import NoticeEntry
from localllm.tui.loader import OpenModel, Wanted
from localllm.tui.messages import (
    ChatChosen,
    ChatDropped,
    ChatExported,
    ChatOpened,
    ChatsFound,
    ChatsLeft,
    ChatsListed,
    Crashed,
    DownloadEnded,
    DownloadMoved,
    Failed,
    LookedAhead,
    MachineWatched,
    MessageMade,
    MessageRefused,
    ModelChanged,
    ModelLost,
    ModelNamed,
    PromptEdited,
    PromptSent,
    PromptsFound,
    ReplyBegan,
    ReplyEnded,
    Sampled,
    VersionWanted,
)
from localllm.tui.orders import Orders
from localllm.tui.outlook import Question, cached
from localllm.tui.overflow import Overflow
from localllm.tui.screens.memory import MemoryScreen
from localllm.tui.switching import Switching
from localllm.tui.vitals import History, SwapWatch
from localllm.tui.widgets.key_line import KeyLine
from localllm.tui.widgets.memory_panel import MemoryPanel
from localllm.tui.widgets.sidebar import Sidebar
from localllm.tui.widgets.status_line import StatusLine
from localllm.tui.widgets.talk import Talk

TICK_S = 0.1
"""How often a growing reply is drawn."""

SHARE = 6
"""Drawing takes at most one part in this many of the time, however long the open block is."""

ROOM_FOR = {"chats": 132, "memory": 92}
"""From how many columns on a panel has its own place; below that it is hidden, and shown over the conversation."""


class ChatScreen(Screen[None]):
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
        super().__init__()
        self._titles = titles
        self._behind = Backstage(open_model, wanted, store, sampling, system, self.post_message)
        self._loader, self._dialogue = self._behind.loader, self._behind.dialogue
        self._dialogue.open(conversation)
        self._orders = Orders(self)
        self._overflow = Overflow(self)
        self._switching = Switching(self, wanted)
        self._branches = Branches(self)
        self.history = History()
        self.last_sample: Sampled | None = None
        self._swap_watch = SwapWatch()
        self._explained: LocalLLMError | None = None
        self._stats: Stats | None = None
        self._context_used = 0
        self._next_draw = 0.0
        self._wanted: dict[str, bool] = {}

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

    def on_resize(self) -> None:
        """Textual's: panels come and go with the width."""
        self._arrange()

    def _arrange(self) -> None:
        for name, room in ROOM_FOR.items():
            panel = self.query_one(f"#{name}")
            fits = self.app.size.width >= room
            panel.set_class(not fits, "-over")
            panel.display = self._wanted.get(name, fits)
        self._want_samples()
        self.refresh_bindings()

    def _want_samples(self) -> None:
        seen = self.query_one(MemoryPanel).display or isinstance(self.app.screen, MemoryScreen)
        self._behind.sampler.want(self.busy or seen)

    def action_close_panels(self) -> None:
        """Take panels away that lie over the conversation."""
        self._wanted.clear()
        self._arrange()

    def _toggle(self, name: str) -> bool:
        self._wanted[name] = not self.query_one(f"#{name}").display
        self._arrange()
        return self._wanted[name]

    def _show_conversation(self, *, growing: bool = False) -> None:
        self._talk.show(wording.entries_of(self.conversation), growing=growing)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Ask what is in the cache, and what the next message will cost."""
        if not self.busy:
            draft = commands.unescaped(self._talk.prompt.text.strip())
            is_command = draft.startswith("/") and not self._talk.prompt.text.startswith(commands.ESCAPE)
            self._behind.outlook.ask(Question(tuple(self._given()), "" if is_command else draft))

    def _given(self) -> list[Given]:
        """What stands before the next message: all, or what is above the message that is edited."""
        edited = self._branches.edited
        if edited is None:
            return self.conversation.given()
        if edited.parent is None:
            return [one for one in self.conversation.given() if not one.nodes]
        return self.conversation.given(until=edited.parent)

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

    @property
    def _talk(self) -> Talk:
        return self.query_one(Talk)

    def _refresh_status(self) -> None:
        following = self._talk.transcript.following
        status = wording.status(self._loader, self._dialogue.turn, self._stats, self._context_used, following=following)
        self.query_one(StatusLine).show(replace(status, download=self._switching.line))

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

    @on(MessageMade)
    def _message_made(self, event: MessageMade) -> None:
        if not self._may_turn():
            self._talk.composer.give_back(event)
        else:
            self._ask(event.text)

    def _ask(self, text: str) -> None:
        edited = self._branches.take()
        if edited is None:
            self._dialogue.send(text)
            question, reply = self.conversation.path()[-2:]
            self._talk.ask(question, reply)
            self._follow()
        elif edited.role == "user":
            self._dialogue.ask_instead(edited.id, text)
            self._show_conversation(growing=True)
            self._follow()
        else:
            self._behind.archive.keep(self.conversation, self.conversation.add_version(edited.id, text))
            self.show_anew()

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
        self._want_samples()
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
        self._want_samples()
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
            self._overflow.offer()
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

    def selected_in_prompt(self) -> str:
        """What is selected where the person writes."""
        prompt = self._talk.prompt
        return prompt.selected_text if prompt.has_focus else ""

    def action_go_on(self) -> None:
        """Go on with a reply that ended early."""
        if self._may_answer():
            self._dialogue.go_on()
            self._show_conversation(growing=True)
            self._follow()

    def action_answer_again(self) -> None:
        """Make another reply to the message that was jumped to, or the last one."""
        self._branches.answer_again()

    def answer_what_is_open(self) -> None:
        """Go on with the last reply if it ended early; else answer the last message."""
        if self._dialogue.can_go_on():
            self.action_go_on()
        elif self._dialogue.can_answer_again():
            self.action_answer_again()

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

    def choose_model(self, name: str) -> None:
        """Load the model of that name, or show those there are."""
        if name:
            self._switching.name(name)
        else:
            self.action_models()

    def action_models(self) -> None:
        """Show the models that can be loaded or downloaded."""
        self._switching.offer()

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

    def crashed(self, error: BaseException) -> None:
        """A thread met a mistake of ours."""
        self._behind.crashed(error)

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

    def _may_answer(self) -> bool:
        if self._loader.state == "failed":
            self.notify("No model is loaded. F5 loads it again.", severity="warning")
        return self._loader.state != "failed"

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

    def show_anew(self, message: str = "") -> None:
        """Another path is to be shown: its end, or a message of it."""
        last = self.conversation.path()[-1:]
        self._stats = last[0].stats if last else None
        self._show_conversation()
        if message:
            self._talk.transcript.go_to(message)
        self._refresh_status()
        self.refresh_bindings()

    def keep_leaf(self) -> None:
        """Remember which message is shown last."""
        self._behind.archive.show(self.conversation.id, self.conversation.leaf)

    def keep_fork(self, fork: Conversation) -> None:
        """Write a new chat, and open it."""
        self._behind.archive.keep_fork(fork)

    def answer_question(self, question_id: str | None) -> None:
        """Make another reply to a question; None is the last one."""
        if self._may_answer():
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

    def action_reload(self) -> None:
        """Load the model again."""
        self._loader.start()

    @on(ChatsListed)
    def _chats_listed(self, event: ChatsListed) -> None:
        self.sidebar.show(event.chats, self.conversation.id)
        self._talk.greet(len(event.chats))

    @on(ChatExported)
    def _chat_exported(self, event: ChatExported) -> None:
        self.notify(f"{event.path}: {event.messages} messages", markup=False)

    @on(ChatsFound)
    def _chats_found(self, event: ChatsFound) -> None:
        self.sidebar.found(event.words, event.hits)

    @property
    def sidebar(self) -> Sidebar:
        """The chats on the left."""
        return self.query_one(Sidebar)

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

    def _may_turn(self) -> bool:
        if self.busy:
            self.notify("The reply is still being made. Esc stops it.", severity="warning")
        return not self.busy

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

    def action_toggle_chats(self) -> None:
        """Show or hide the list of chats; it has the focus when it is shown."""
        if self._toggle("chats"):
            self.sidebar.focus_list()
        else:
            self._talk.prompt.focus()

    def show_chats(self) -> None:
        """Show the list of chats."""
        self._wanted["chats"] = True
        self._arrange()

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

    @on(Failed)
    def _failed(self, event: Failed) -> None:
        self._explain(event.error)

    @on(Crashed)
    def _raise(self, event: Crashed) -> None:
        raise event.error

    def action_toggle_memory(self) -> None:
        """Show or hide the memory panel."""
        self._toggle("memory")

    def action_show_memory(self) -> None:
        """Show where the memory goes on a whole screen."""
        self.app.push_screen(MemoryScreen(self, self.history), self._load_so)
        self._want_samples()

    def _load_so(self, options: Options | None) -> None:
        self._want_samples()
        if options is not None and self._may_turn():
            self.load_with(options)

    def action_scroll(self, action: str) -> None:
        """Scroll the conversation from wherever the focus is."""
        getattr(self._talk.transcript, f"action_{action}")()

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
        """End everything; the last words reach the disk first. Call it when the app no longer runs."""
        self._switching.close()
        self._behind.close()
