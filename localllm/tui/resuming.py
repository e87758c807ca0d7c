"""A chat goes on with the model it was used with, loaded as it was.

Opening a chat loads nothing: its words are there at once, people leaf through chats, and what is loaded holds the KV
cache of the chat before. Where the chat was used with another model, or one that was loaded otherwise, a line above the
prompt says so and what that takes. The next message loads it, and waits for it; Enter in the empty prompt loads it now;
Esc keeps what is loaded, which from the next reply on is the model of this chat. What does not fit, or is not on this
machine any more, is told, and the chat goes on with what is loaded.

Knows the screen only as what shows.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from localllm.chat.conversation import Conversation
from localllm.chat.settings import ENGINE, MODEL, engine_of
from localllm.runtime.options import Options
from localllm.tui import background, own_model
from localllm.tui.backstage import Backstage
from localllm.tui.loader import options_of_another
from localllm.tui.messages import ModelLabelled, OwnModelFound
from localllm.tui.own_model import OwnModel, Present

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Resuming:
    """Over one screen. `usual` is how models are loaded for chats without settings of their own.

    All methods are for the app's thread.
    """

    def __init__(self, screen: ChatScreen, behind: Backstage, usual: Options) -> None:
        self._screen = screen
        self._loader = behind.loader
        self._usual = usual
        self._first = behind.loader.wanted.path
        self._looks = 0
        self._labels: dict[str, str] = {}
        self._kept: set[str] = set()
        """The chats for which the person kept what is loaded, or whose own model did not load."""
        self._loading = ""
        """The chat whose model is being loaded."""
        self.offer: OwnModel | None = None
        """What the open chat was used with, while that is not what is loaded."""

    def look(self) -> None:
        """The open chat or the loaded model is another one now: see whether they belong together."""
        self._looks += 1
        self._show(None)
        conversation, looks = self._screen.conversation, self._looks
        if conversation.id in self._kept or not conversation.nodes:
            return
        settings, present = dict(conversation.settings), self._present()

        def find() -> None:
            offer = own_model.look(conversation.id, settings, self._usual, present)
            if offer is not None and looks == self._looks:
                self._screen.post_message(OwnModelFound(offer, looks))
                self._screen.post_message(OwnModelFound(own_model.planned(offer, present), looks))

        background.start(find, "find the chat's model", self._screen.crashed)

    def _present(self) -> Present:
        model = self._loader.model
        return Present(self._loader.wanted, model.plan if model is not None else None, self._loader.took_s)

    def found(self, event: OwnModelFound) -> None:
        """Show what the open chat was used with, unless something changed meanwhile."""
        if event.look == self._looks:
            self._show(event.offer)

    def _show(self, offer: OwnModel | None) -> None:
        self.offer = offer
        model = self._loader.model
        name = model.info.name if model is not None else self._loader.wanted.path.stem
        lost = not self._loader.wanted.options.kv_disk and self._screen.replies.context_used > 0
        text = own_model.told(offer, name, lost=lost) if offer is not None else ""
        self._screen.talk.offer_line.show(text, alarming=offer is not None and not offer.can_load)
        self._screen.refresh_bindings()

    def keep(self) -> None:
        """The person keeps what is loaded."""
        if self.offer is not None:
            self._kept.add(self.offer.chat)
            self._show(None)

    def load(self) -> None:
        """Load what the open chat was used with, if that can be."""
        offer = self.offer
        if offer is not None and offer.wanted is not None and offer.can_load and self._screen.may_turn():
            self._loading = offer.chat
            self._screen.loaded.load(offer.wanted)
            self.look()

    def choose(self, name: str, path: Path) -> bool:
        """The person chose a model for the open chat, which keeps that: load it as the chat has its models loaded.

        Whether it is loaded now; not if it is already.

        Raises:
            ModelNotFound, BadModelFile: as `options_of_another`.
        """
        usual = self._usual if path == self._first else options_of_another(self._usual, path)
        conversation = self._screen.conversation
        conversation.settings[MODEL] = name
        self._screen.chats.keep_settings()
        self._kept.discard(conversation.id)
        wanted = own_model.chosen(path, conversation.settings, usual)
        loads = self._loader.state == "failed" or own_model.differs(conversation.settings, wanted, self._present())
        if loads:
            self._loading = conversation.id
            self._screen.loaded.load(wanted)
        self.look()
        return loads

    def loaded(self) -> None:
        """A model is loaded, or failed to load."""
        if self._loader.state == "failed" and self._loading:
            self._kept.add(self._loading)
        self._loading = ""
        self._find_label()
        self.look()

    def _find_label(self) -> None:
        path = self._loader.wanted.path
        if str(path) not in self._labels:

            def find() -> None:
                self._screen.post_message(ModelLabelled(path, own_model.label_of(path)))

            background.start(find, "name the model", self._screen.crashed)

    def labelled(self, event: ModelLabelled) -> None:
        """Remember by which name a model is known."""
        self._labels[str(event.path)] = event.label

    def used(self, conversation: Conversation) -> None:
        """A reply was made: this chat was used with what is loaded."""
        path = self._loader.wanted.path
        label = self._labels.get(str(path), str(path.absolute()))
        settings = own_model.as_used(conversation.settings, label, self._usual, self._present())
        if settings != conversation.settings:
            conversation.settings = settings
            self._screen.chats.keep_settings(conversation)
        if conversation is self._screen.conversation:
            self._show(None)

    def chose(self, options: Options) -> None:
        """The person has the model loaded with other options for the open chat, which keeps what is new of them."""
        model, conversation = self._loader.model, self._screen.conversation
        before = model.plan.options if model is not None else self._loader.wanted.options
        after = engine_of(options)
        changed = {name: value for name, value in after.items() if value != engine_of(before).get(name)}
        if changed:
            conversation.settings[ENGINE] = {**conversation.settings.get(ENGINE, {}), **changed}
            self._screen.chats.keep_settings()
