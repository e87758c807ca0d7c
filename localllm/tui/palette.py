"""What the command palette offers on the chat: what keys do, by the words that somebody would look for.

Knows the screen only as what does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen

NOT_OURS = frozenset({"Keys", "Maximize", "Minimize"})
"""What Textual offers and is of no use: its panel of keys is of the focused widget, and panes come by keys of ours."""


def commands(screen: ChatScreen) -> Iterator[SystemCommand]:
    """All that means something as things stand."""
    yield SystemCommand("New chat", "Begin a new conversation", screen.action_new_chat)
    yield SystemCommand("Chats", "Show or hide the list of chats", screen.action_toggle_chats)
    yield SystemCommand("Memory", "Show or hide the memory panel", screen.action_toggle_memory)
    yield SystemCommand("Settings", "Of this chat, and presets", screen.action_settings)
    yield SystemCommand("Models", "Load another, or download one", screen.action_models)
    yield SystemCommand("Compare", "One prompt, two models side by side", screen.action_compare)
    yield SystemCommand("All memory", "Devices, layers, what if", screen.action_show_memory)
    yield SystemCommand("Make room in the context", "Send less, or load more", screen.action_make_room)
    if screen.check_action("edit", ()):
        yield SystemCommand("Edit a message", "The current one, or the last question", screen.action_edit)
        yield SystemCommand("Fork this chat", "A new one that begins as this", screen.action_fork)
    if screen.check_action("answer_again", ()):
        yield SystemCommand("Answer again", "Regenerate: the old reply is kept", screen.action_answer_again)
    if screen.check_action("go_on", ()):
        yield SystemCommand("Go on with the reply", "Continue what ended early", screen.action_go_on)
    yield from screen.talk.commands()
    if screen.conversation.first_sent() is not None:
        yield SystemCommand("Send again", "What the last line keeps out", screen.overflow.send_again)
    yield SystemCommand("Load the model again", "Free it and load it anew", screen.action_reload)
