"""What is in the prompt belongs to the chat that is open: it is kept as it is written, and comes back with its chat.

Knows the screen only as what shows; reading and writing is the archive's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.timer import Timer

from localllm.chat.drafts import NEW_CHAT
from localllm.tui.backstage import Backstage
from localllm.tui.messages import DraftFound

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen

KEEP_S = 0.7
"""What is written is on disk so soon after: one write for all the keys of that time."""


class DraftKeeper:
    """Over one screen. All methods are for the app's thread."""

    def __init__(self, screen: ChatScreen, behind: Backstage) -> None:
        self._screen = screen
        self._archive = behind.archive
        self._timer: Timer | None = None
        self._seen, self._written = "", 0.0
        self._kept = (NEW_CHAT, "")

    @property
    def _chat(self) -> str:
        conversation = self._screen.conversation
        return conversation.id if conversation.nodes else NEW_CHAT

    def edited(self, text: str) -> None:
        """What the person is writing changed."""
        self._see(text)
        if self._timer is None:
            self._timer = self._screen.set_timer(KEEP_S, self._keep_soon)

    def _see(self, text: str) -> None:
        self._seen, self._written = self._screen.branches.draft_with(text), time.time()

    def _keep_soon(self) -> None:
        self._timer = None
        self.keep()

    def keep(self) -> None:
        """Have it written now."""
        now = (self._chat, self._seen)
        if now != self._kept:
            self._kept = now
            self._archive.keep_draft(*now, self._written)

    def leave(self) -> str:
        """Another chat is about to be opened: what is in the prompt stays with this one. Returns which it is."""
        self._see(self._screen.talk.prompt.text)
        self.keep()
        return self._chat

    def come(self, left: str) -> None:
        """Another chat is open than the one that was left."""
        if self._chat != left:
            self._screen.talk.prompt.clear()
            self._seen, self._kept = "", (self._chat, "")
            self.find()

    def find(self) -> None:
        """Look for the draft of the open chat."""
        self._archive.find_draft(self._chat)

    def found(self, event: DraftFound) -> None:
        """Put a draft where it was, before what was typed since."""
        if event.chat == self._chat and event.text:
            prompt = self._screen.talk.prompt
            self._kept = (event.chat, event.text)
            prompt.put_back(f"{event.text}\n" if prompt.text else event.text)
