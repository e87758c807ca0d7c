"""Which keys of the chat mean something now: of those that share a key, the first that does is what it means.

Decides only; what each does is the screen's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen


def meaning(screen: ChatScreen, action: str) -> bool | None:
    """Whether an action of the chat means something as things stand; None of one that always does."""
    if action == "stop":
        return screen.grows
    if action == "leave_edit":
        return screen.branches.edited is not None and not screen.grows
    if action == "keep_model":
        return screen.resuming.offer is not None and not screen.grows
    if action == "tidy":
        return not screen.grows and screen.talk.has_told
    if action == "edit":
        return not screen.busy and bool(screen.conversation.nodes)
    if action == "close_panels":
        return not screen.grows and bool(screen.visited)
    if action == "go_on":
        return screen.behind.dialogue.can_go_on()
    if action == "answer_again":
        return screen.behind.dialogue.can_answer_again()
    if action == "reload":
        return screen.behind.loader.state == "failed"
    return None
