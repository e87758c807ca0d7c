"""The conversation on the screen: what can be done with its entries, and what is marked on them.

One entry may be current: what the person does next is about that one. Knows nothing of models or of the conversation's
tree; how entries are laid out and scrolled is in `entry_view`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.text import Text
from textual.events import Blur, Click, Focus
from textual.strip import Strip

from localllm.chat.printable import printable
from localllm.tui.component import component_style
from localllm.tui.entries import MARGIN, RIBBON_WIDTH, Entry
from localllm.tui.messages import Found, VersionWanted
from localllm.tui.search import Search
from localllm.tui.strips import marked, painted, step_at
from localllm.tui.widgets.entry_view import EntryView

CURRENT = "»"
"""In the margin of the message that was jumped to."""

RIBBON = "▏"
"""Beside a message that is in the KV cache."""

READING = "Arrows scroll · letters and Esc go back to your message"
"""Above the conversation while it has the focus."""

SEARCH_S, SEARCH_EVERY_S = 0.008, 0.02
"""So long at a time is searched, and so often: a reply that streams in has the rest."""


class Transcript(EntryView):
    """The entries of a conversation, below each other."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "transcript--current",
        "transcript--ribbon",
        "transcript--found",
        "transcript--found-here",
    }

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._cached: frozenset[str] = frozenset()
        self._ribbon = Segment(RIBBON)
        self._current: Entry | None = None
        self._search = Search()
        self._heading = ""

    def entitle(self, title: str) -> None:
        """Say above the entries what they are; nothing for an empty title."""
        self._heading = printable(title)
        self._head()

    def _head(self) -> None:
        # Above the text, which begins where the margin ends; the border has a column. As text no bracket is mark-up.
        above = Text(" " * (self._page.left + MARGIN - 1) + self._heading)
        self.border_title = READING if self.has_focus else above

    @property
    def current(self) -> Entry | None:
        """The message that was jumped to, while it is there."""
        return self._current

    def show(self, entries: Sequence[Entry]) -> None:
        """Show another conversation, at its end."""
        self._current = None
        super().show(entries)

    def jump(self, step: int) -> None:
        """Make the message before, or with 1 after, the current one; past the last there is none, and the end."""
        messages = [entry for entry in self._entries if entry.message]
        place = len(messages) + (step if step < 0 else 0)
        if self._current in messages:
            place = messages.index(self._current) + step
        if place >= len(messages) or not messages:
            self.leave()
            self.action_scroll_end()
        else:
            self._current = messages[max(0, place)]
            self._reveal(self._index(self._current), 0)

    def go_to(self, message: str) -> None:
        """Make the entry of a message the current one."""
        self._current = next((entry for entry in self._entries if entry.message == message), None)
        if self._current is not None:
            self._reveal(self._index(self._current), 0)

    def leave(self) -> bool:
        """No message is current any more. Whether one was."""
        left, self._current = self._current is not None, None
        self.refresh()
        return left

    def fold(self, entry: Entry) -> None:
        """Fold or unfold what `entry` can; its first row stays where it is."""
        index = self._index(entry)
        entry.fold()
        self._following = False
        self._draw(index)
        self._settle()
        self._following = self.scroll_offset.y >= self.max_scroll_y
        self._changed(index)
        self.refresh()

    def on_click(self, event: Click) -> None:
        """Textual's: a click on what folds, or on one of the arrows of `‹2/3›`."""
        row = self.scroll_offset.y + event.y - self.gutter.top
        if not 0 <= row < self._rows.total:
            return
        index = self._rows.at(row)
        entry = self._entries[index]
        if entry.folds_at(row - self._rows.top(index)):
            self.fold(entry)
        elif entry.message and (step := step_at(self._strip_at(row).text, event.x - self.styles.padding.left)):
            self.post_message(VersionWanted(entry.message, step))

    def on_focus(self, _event: Focus) -> None:
        """Textual's: say that keys come here, and where letters go."""
        self._head()

    def on_blur(self, _event: Blur) -> None:
        """Textual's: what the entries are can be seen again."""
        self._head()

    def find(self, text: str) -> None:
        """Look for `text` in all entries, a part at a time; `Found` tells how far it is."""
        self._search.begin(text, self._entries)
        if self._search.pending:
            self._searching.resume()
        self._tell_found()

    def find_next(self, step: int) -> None:
        """Go to the match after the one that is shown, or with -1 to the one before; it goes round."""
        if self._search.move(step):
            self._show_match()
        self._tell_found()

    def _search_more(self) -> None:
        """Search for some milliseconds; the entries next to the end come first, and the first match found is shown."""
        until = time.monotonic() + SEARCH_S
        none_yet = self._search.here is None
        while (index := self._search.next_entry()) is not None and time.monotonic() < until:
            self._search_in(index)
        if not self._search.pending:
            self._searching.pause()
        if none_yet and self._search.here is not None:
            self._show_match()
        self._tell_found()
        self.refresh()

    def _search_in(self, index: int) -> None:
        entry = self._entries[index]
        rows: list[str] = []
        if self._search.may_be_in(entry):
            above = self._rows.top(index) < self.scroll_offset.y
            moved = self._draw(index)
            if moved:
                self._go(self.scroll_offset.y + (moved if above else 0))
            rows = [strip.text for strip in entry.strips(self._page)]
        self._search.put(index, rows, self._page.left + MARGIN)

    def _changed(self, index: int) -> None:
        """What is found in an entry is found again."""
        if self._search.active:
            self._search_in(index)
            self._tell_found()

    def _show_match(self) -> None:
        if self._search.here is not None:
            index, match = self._search.here
            self._reveal(index, match[0].row)

    def _tell_found(self) -> None:
        self.post_message(Found(self._search.place, self._search.count, over=not self._search.pending))

    def _laid_out(self) -> None:
        self._ribbon = Segment(RIBBON, component_style(self, "transcript--ribbon"))
        self._head()
        if self._search.active:
            self.find(self._search.text)

    def on_mount(self) -> None:
        """Textual's."""
        self._searching = self.set_interval(SEARCH_EVERY_S, self._search_more, pause=True)

    def _marked(self, strip: Strip, row: int) -> Strip:
        """The strip of a row with what was found on it, and a mark where the current entry begins."""
        index = self._rows.at(row)
        inside = row - self._rows.top(index)
        for span, here in self._search.on_row(index, inside):
            name = "transcript--found-here" if here else "transcript--found"
            strip = painted(strip, span.begin, span.end, component_style(self, name))
        if inside == 0 and self._entries[index] is self._current:
            at = self._page.left + MARGIN - 1
            style = component_style(self, "transcript--current")
            strip = marked(strip, at, Segment(CURRENT, style))
        if self._entries[index].message in self._cached and inside < self._rows.height(index) - 1:
            strip = marked(strip, self._page.left - RIBBON_WIDTH, self._ribbon)
        return strip

    def show_cached(self, messages: frozenset[str]) -> None:
        """Mark the entries of these messages in the margin: they are in the KV cache."""
        if messages != self._cached:
            self._cached = messages
            self.refresh()
