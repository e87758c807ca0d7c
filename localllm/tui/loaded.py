"""The model behind the screen: loaded, loaded otherwise, lost; and what is said about it.

Knows the screen only as what shows; loading is the loader's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from localllm.errors import EngineDied, LocalLLMError
from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.tui import wording
from localllm.tui.backstage import Backstage
from localllm.tui.entries import NoticeEntry
from localllm.tui.loader import Wanted
from localllm.tui.widgets.memory_panel import MemoryPanel

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen
    from localllm.tui.screens.settings import Chosen


class Loaded:
    """Over one screen. All methods are for the app's thread."""

    def __init__(self, screen: ChatScreen, behind: Backstage) -> None:
        self._screen = screen
        self._behind = behind
        self._loader = behind.loader
        self._explained: LocalLLMError | None = None
        self._told: NoticeEntry | None = None
        self._greeted: Responder | None = None

    def load(self, wanted: Wanted) -> None:
        """Load this instead of what is loaded."""
        self._loader.start(wanted)

    def load_with(self, options: Options) -> None:
        """Load the model again with other options, which the chat keeps."""
        self._screen.resuming.chose(options)
        self.load(replace(self._loader.wanted, options=options))

    def load_again(self) -> None:
        """Load what was wanted before, or if that did not load what did."""
        self._loader.start()

    def changed(self) -> None:
        """The model is loading, is loaded, or failed to load."""
        loader = self._loader
        if loader.error is not None and loader.error is not self._explained:
            self._explained = loader.error
            self._tell_failure(loader.error)
        if loader.state != "ready":
            self._screen.query_one(MemoryPanel).show(None)
            self._screen.talk.transcript.show_cached(frozenset())
        else:
            self._greet(loader.model)
            self._behind.sampler.now()
            self._screen.sending.look_ahead()
        self._screen.refresh_status()
        if loader.state != "loading":
            self._screen.resuming.loaded()
        if loader.state != "loading" or not loader.fraction:
            self._screen.refresh_bindings()

    def _greet(self, model: Responder | None) -> None:
        """Say of a model that was just loaded what a person should know before writing."""
        if model is not None and model is not self._greeted and not model.info.has_chat_template:
            self._screen.talk.tell(wording.no_template(model.info))
        self._greeted = model

    def may_answer(self) -> bool:
        """Whether there is, or will be, a model that can answer; says so if not."""
        failed, model = self._loader.state == "failed", self._loader.model
        if failed:
            self._screen.notify("No model is loaded. F5 loads it again.", severity="warning")
        # The chat's own model is loaded with the next message, in place of this one.
        dumb = model is not None and not model.info.has_chat_template and self._screen.resuming.offer is None
        if dumb:
            self._screen.notify(
                "This model has no chat template, so it cannot answer. F8 loads another.", severity="warning"
            )
        return not failed and not dumb

    def _tell_failure(self, error: LocalLLMError) -> None:
        self._told = wording.model_notice(error)
        self._screen.talk.tell(self._told)

    def lost(self, error: LocalLLMError) -> None:
        """The model died, or was closed for another one."""
        if isinstance(error, EngineDied):
            self._loader.fail(error)

    def explain(self, error: LocalLLMError | None) -> None:
        """Say what went wrong, once; a model that died is of no more use."""
        if error is None or (isinstance(error, EngineDied) and self._loader.fail(error)):
            return
        failure = self._loader.error
        # One death is met by all who wait for the engine, each with an error of its own.
        if failure is None or not (
            error is failure or (isinstance(error, EngineDied) and isinstance(failure, EngineDied))
        ):
            self._screen.talk.tell(wording.notice(error))
        elif self._told not in self._screen.talk.transcript.entries:
            # Another path was shown since, and what was told went with the one before.
            self._tell_failure(failure)

    def show_settings(self) -> None:
        """Show the settings of the chat, and use what the person settles for."""
        model = self._loader.model
        if model is None:
            self._screen.notify("The settings need a model that is loaded.", severity="warning")
        elif self._screen.may_turn():
            from localllm.tui.screens.settings import SettingsScreen

            self._screen.app.push_screen(SettingsScreen(self._screen, model.plan, self._loader.took_s), self._settle)

    def _settle(self, chosen: Chosen | None) -> None:
        if chosen is None or not self._screen.may_turn():
            return
        conversation, model = self._screen.conversation, self._loader.model
        conversation.settings = chosen.settled.into(conversation.settings)
        self._screen.chats.keep_settings()
        if chosen.system != conversation.system:
            self._screen.chats.change_system(chosen.system)
        if model is not None and chosen.settled.options != model.plan.options:
            self.load_with(chosen.settled.options)
        self._screen.sending.look_ahead()
