"""From what a person calls a chat to the chat: the beginning of its id, or of its title.

Knows nothing of where chats are kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from localllm.chat.rows import ChatEntry
from localllm.errors import BadChat

SHORT_ID = 8
"""Characters of an id that are shown; any that are unique name the chat."""

_LISTED = 5


def chat_named(name: str, chats: Sequence[ChatEntry]) -> ChatEntry:
    """The one chat that `name` means: an id, a title, the beginning of either, or a part of a title, in this order.

    Raises:
        BadChat: none, says the nearest; or several, says which.
    """
    wanted = " ".join(name.split()).casefold()
    if not wanted:
        raise BadChat("The name of the chat is empty.", hint=_LIST)
    ways: tuple[Callable[[ChatEntry], bool], ...] = (
        lambda chat: chat.id == wanted,
        lambda chat: chat.title.casefold() == wanted,
        lambda chat: chat.id.startswith(wanted) or chat.title.casefold().startswith(wanted),
        lambda chat: wanted in chat.title.casefold(),
    )
    for way in ways:
        found = [chat for chat in chats if way(chat)]
        if len(found) == 1:
            return found[0]
        if found:
            raise BadChat(
                f"{len(found)} chats are called {name!r}:", hint=f"{_lines(found)}\nThe id names one of them."
            )
    raise BadChat(f"There is no chat {name!r}.", hint=_nearest(wanted, chats))


_LIST = "`localllm chats list` lists them."


def _nearest(wanted: str, chats: Sequence[ChatEntry]) -> str:
    if not chats:
        return "There are no chats yet."
    titles = {chat.title.casefold(): chat for chat in reversed(chats)}
    close = difflib.get_close_matches(wanted, titles, n=_LISTED, cutoff=0.4)
    if not close:
        words = set(wanted.split())
        close = [title for title in titles if words & set(title.split())][:_LISTED]
    return f"The nearest:\n{_lines([titles[title] for title in close])}" if close else _LIST


def _lines(chats: Sequence[ChatEntry]) -> str:
    shown = [f"{chat.id[:SHORT_ID]}  {chat.title}" for chat in chats[:_LISTED]]
    return "\n".join(shown + (["…"] if len(chats) > _LISTED else []))
