"""What is in the prompt, files too, belongs to the open chat: it is kept as written, and comes back with its chat.

Knows the screen only as what shows; reading and writing is the archive's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.timer import Timer

from localllm.chat.attachments import Attachment, joined, split
from localllm.chat.drafts import NEW_CHAT, together
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
        self._seen: tuple[list[Attachment], str] = ([], "")
        self._written = 0.0
        self._kept: tuple[str, str] | None = None
        """The chat and its draft as they are kept; None while that is not known, and must not be written over."""
        self._left: dict[str, str] = {}
        """What was written in chats that were left before their drafts were found, to be put behind those."""

    @property
    def _chat(self) -> str:
        conversation = self._screen.conversation
        return conversation.id if conversation.nodes else NEW_CHAT

    def edited(self) -> None:
        """What the person is writing changed, or the files that go along."""
        self._see()
        if self._timer is None:
            self._timer = self._screen.set_timer(KEEP_S, self._keep_soon)

    def _see(self) -> None:
        self._seen, self._written = self._screen.branches.not_sent(), time.time()

    def _keep_soon(self) -> None:
        self._timer = None
        self.keep()

    def keep(self) -> None:
        """Have it written now."""
        if self._kept is None:
            self.find()
            return
        before, now = self._kept, (self._chat, joined(*self._seen))
        if now == before:
            return
        self._kept = now
        if before[1] and before[0] != now[0]:
            # What was new is a chat by now. Its message may have reached the disk before the draft of it did.
            self._archive.keep_draft(before[0], "", self._written)
        self._archive.keep_draft(*now, self._written)

    def leave(self) -> str:
        """Another chat is about to be opened: what is in the prompt stays with this one. Returns which it is."""
        self._see()
        self.keep()
        return self._chat

    def come(self, left: str) -> None:
        """Another chat is open than the one that was left."""
        if self._chat != left:
            self._leave_behind(left)
            self._screen.talk.composer.clear()
            self._seen, self._kept = ([], ""), None
            self.find()

    def _leave_behind(self, chat: str) -> None:
        if self._kept is None:
            self._left[chat] = together([self._left.get(chat, ""), joined(*self._seen)])

    def close(self) -> None:
        """Nobody is there any more to whom a draft could be shown: what was written goes behind those not found yet."""
        self.keep()
        self._leave_behind(self._chat)
        for chat, text in self._left.items():
            if text:
                self._archive.add_to_draft(chat, text, self._written)

    def find(self) -> None:
        """Look for the draft of the open chat."""
        self._archive.find_draft(self._chat)

    def found(self, event: DraftFound) -> None:
        """Put a draft where it was, before what was typed since."""
        left = self._left.pop(event.chat, "")
        text = together([event.text, left]) if left else event.text
        if left and event.chat != self._chat:
            self._archive.keep_draft(event.chat, text, time.time())
            return
        if self._kept is not None:  # it was looked for twice
            return
        if event.chat == self._chat:
            self._kept = (event.chat, event.text)
            if text:
                self._screen.talk.composer.take_up(*split(text))
            self._see()
            self.keep()
        elif event.chat == NEW_CHAT and event.text:
            # A message that was sent before it was found has taken it from the disk.
            self._archive.keep_draft(NEW_CHAT, event.text, time.time())
