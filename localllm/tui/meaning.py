"""The keys of the chat, and which of them mean something now: of those that share a key, the first that does.

Binds and decides; what each does is the screen's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.binding import Binding, BindingType

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen

KEYS: list[BindingType] = [
    Binding("escape", "stop", "Stop"),
    Binding("escape", "leave_edit", "Leave it"),
    Binding("escape", "keep_model", "Keep the model"),
    Binding("escape", "write", "Write"),
    Binding("enter", "write", show=False),
    Binding("escape", "tidy", "Clear"),
    Binding("escape", "close_panels", "Back"),
    Binding("ctrl+g", "go_on", "Go on"),
    Binding("ctrl+g", "tell_ended", show=False),
    Binding("ctrl+r", "answer_again", "Again"),
    Binding("ctrl+n", "new_chat", "New"),
    Binding("f3", "toggle_chats", "Chats"),
    Binding("f4", "edit", "Edit"),
    # Before the prompt, whose own F7 selects all.
    Binding("f7", "settings", "Settings", show=False, priority=True),
    Binding("f8", "models", "Models", show=False),
    Binding("f9", "show_memory", "All memory", show=False),
    Binding("f12", "compare", "Compare", show=False),
    Binding("f5", "reload", "Load again"),
    # Before the prompt, whose own F6 selects a line.
    Binding("f6", "make_room", "Make room", show=False, priority=True),
    Binding("f1", "app.help", "Keys"),
    Binding("alt+left", "sibling(-1)", "The version before", show=False, priority=True),
    Binding("alt+right", "sibling(1)", "The version after", show=False, priority=True),
    Binding("ctrl+z", "restore", show=False),
]


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
        return not screen.grows and bool(screen.conversation.nodes)
    if action == "close_panels":
        return not screen.grows and bool(screen.visited)
    if action == "go_on":
        return screen.behind.dialogue.can_go_on()
    if action == "answer_again":
        return screen.behind.dialogue.can_answer_again()
    if action == "reload":
        return screen.behind.loader.state == "failed"
    return None
