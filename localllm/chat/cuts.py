"""The lines in a chat above which nothing is sent: what the last of them keeps out, and how it is taken back.

Knows nothing of contexts and screens.
"""

from __future__ import annotations

from dataclasses import dataclass

from localllm.chat.conversation import Conversation
from localllm.counts import counted
from localllm.errors import BadCommand


@dataclass(frozen=True)
class LeftOut:
    """What the last line keeps out: so many `messages` above the message `first`, and so many `before` them that a
    line further up keeps out."""

    first: str
    messages: int
    before: int

    @property
    def rest(self) -> str:
        """That those further up stay left out, in words."""
        return "the one before stays left out" if self.before == 1 else f"the {self.before:,} before stay left out"


def left_out(conversation: Conversation) -> LeftOut | None:
    """What the last line on the path that is shown keeps out; None where all is sent."""
    path, first = conversation.path(), conversation.first_sent()
    if first is None:
        return None
    above = conversation.first_sent(mended=first.id)
    before = path.index(above) if above is not None else 0
    return LeftOut(first.id, path.index(first) - before, before)


def send_again(conversation: Conversation) -> str:
    """Take back the last line. Returns what is sent again, in words.

    Raises:
        BadCommand: there is none.
    """
    found = left_out(conversation)
    if found is None:
        raise BadCommand("Nothing of this chat is left out: all of it is sent.")
    conversation.mend(found.first)
    if not found.before:
        return "All of this chat is sent again, from the next message on."
    are = "is" if found.messages == 1 else "are"
    return f"{counted(found.messages, 'message')} {are} sent again, from the next message on; {found.rest}."
