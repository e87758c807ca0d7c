"""A search of the hub while the chat goes on: one at a time, in a thread of its own.

What was found is told at once, then the models of each repo, one repo after the other. Knows nothing of widgets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from textual.message import Message

from localllm.errors import LocalLLMError
from localllm.tui import background
from localllm.tui.messages import HubOffered, HubSearched

LIMIT = 12
"""Repos that are shown, the most downloaded: more words find others."""


class HubSearch:
    """Its results come as messages. All methods are for the app's thread; another search ends the one before."""

    def __init__(self, post: Callable[[Message], object], crashed: Callable[[BaseException], object]) -> None:
        self._post = post
        self._crashed = crashed
        self._given_up = threading.Event()

    def start(self, words: str) -> None:
        """Search for repos with these words in their names."""
        self.cancel()
        given_up = self._given_up = threading.Event()

        def tell(message: Message) -> None:
            if not given_up.is_set():
                self._post(message)

        background.start(lambda: _search(words, tell, given_up.is_set), "search the hub", self._crashed)

    def cancel(self) -> None:
        """Nobody wants to know any more; nothing else is asked, and nothing told."""
        self._given_up.set()


def _search(words: str, tell: Callable[[Message], object], is_old: Callable[[], bool]) -> None:
    try:
        from localllm.library.search import search

        hits = search(words.split(), LIMIT)
    except LocalLLMError as error:
        tell(HubSearched(words, (), error))
        return
    tell(HubSearched(words, hits, None))
    from localllm.library.offers import offers_of

    for hit in hits:
        if is_old():
            return
        try:
            tell(HubOffered(words, hit.repo, offers_of(hit, lambda _: None), None))
        except LocalLLMError as error:
            tell(HubOffered(words, hit.repo, (), error))
