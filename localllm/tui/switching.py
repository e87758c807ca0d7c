"""Another model: the list of those there are, the one that a person names, the switch, the downloads.

Knows the screen only as what shows and loads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.errors import LocalLLMError
from localllm.tui import background
from localllm.tui.downloads import Downloads
from localllm.tui.messages import DownloadEnded, DownloadMoved, Failed, ModelNamed, ModelsListed
from localllm.tui.models import Choice, choices, room_after
from localllm.tui.own_model import label_of
from localllm.tui.screens.models import ModelsScreen
from localllm.tui.wording import download_line

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


class Switching:
    """Over one screen."""

    def __init__(self, screen: ChatScreen) -> None:
        self._screen = screen
        self._downloads = Downloads(screen.post_message, screen.crashed)
        self.line = ""
        """How far a download is; empty while there is none."""

    def offer(self, chosen: Callable[[Choice | None], None] | None = None) -> None:
        """Show the models there are. What is picked is loaded, or goes to `chosen`."""
        model, sample = self._screen.model, self._screen.watching.last
        opened = str(model.info.path) if model is not None else ""
        room = room_after(sample.memory if sample is not None else None)
        dialog = ModelsScreen(self._downloads, opened, room, self._screen.crashed)
        self._screen.app.push_screen(dialog, chosen or self._chosen)
        self._list(dialog)

    def _list(self, dialog: ModelsScreen) -> None:
        def find() -> None:
            try:
                dialog.post_message(ModelsListed(choices()))
            except LocalLLMError as error:
                self._screen.post_message(Failed(error))

        background.start(find, "list models", self._screen.crashed)

    def name(self, name: str) -> None:
        """Load the model that a person names, if it is here."""

        def find() -> None:
            from localllm import library

            try:
                path = library.resolve(name)
                self._screen.post_message(ModelNamed(label_of(path), path))
            except LocalLLMError as error:
                self._screen.post_message(Failed(error))

        background.start(find, "find a model", self._screen.crashed)

    def _chosen(self, choice: Choice | None) -> None:
        if choice is not None and choice.path is not None:
            # A repo of a checkpoint is no name of the file that was made of it.
            self.load(str(choice.path) if choice.source else choice.name, choice.path)

    def load(self, name: str, path: Path) -> None:
        """Free what is loaded, then load this, as the chat has it loaded; what is so already stays."""
        if not self._screen.may_turn():
            return
        try:
            loads = self._screen.resuming.choose(name, path)
        except LocalLLMError as error:
            self._screen.loaded.explain(error)
        else:
            if not loads:
                self._screen.notify(f"{name} is loaded already.", markup=False)

    def moved(self, event: DownloadMoved) -> None:
        """Show how far a download is."""
        self.line = f"{event.name} {download_line(event)}"
        self._screen.refresh_status()
        if isinstance(self._screen.app.screen, ModelsScreen):
            self._screen.app.screen.moved(event)

    def ended(self, event: DownloadEnded) -> None:
        """A download ended: say so, and list what is here now."""
        self.line = ""
        self._screen.refresh_status()
        self._downloads.ended()
        dialog = self._screen.app.screen
        if isinstance(dialog, ModelsScreen):
            dialog.ended(event)
            self._list(dialog)
        elif event.error is not None:
            self._screen.notify(f"{event.error}", severity="warning", markup=False, timeout=15)
        else:
            self._screen.notify(f"{event.name} is on this machine now. F8 loads it.", markup=False, timeout=15)

    def close(self) -> None:
        """Stop a download; what has arrived is kept."""
        self._downloads.cancel()
