"""The conversation on the screen: one line renderer, whatever its length.

Entries are drawn when they come into sight; until then their height is a guess. Follows the end unless the person
scrolled up. One entry may be current: what the person does next is about that one. Knows nothing of models or of the
conversation's tree.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from localllm.tui.component import component_style
from localllm.tui.entries import MARGIN, RIBBON_WIDTH, Entry, Page
from localllm.tui.look import NAMES, Look
from localllm.tui.messages import Found, VersionWanted
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.rows import Rows
from localllm.tui.search import Search

CURRENT = "»"
"""In the margin of the message that was jumped to."""

RIBBON = "▏"
"""Beside a message that is in the KV cache."""

SEARCH_S, SEARCH_EVERY_S = 0.008, 0.02
"""So long at a time is searched, and so often: a reply that streams in has the rest."""


VERSIONS = re.compile(r"\s*(‹\d+/\d+›)")


def _component(name: str) -> str:
    return f"transcript--{name.replace('_', '-')}"


class Transcript(ScrollView):
    """The entries of a conversation, below each other."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {_component(name) for name in NAMES} | {
        "transcript--current",
        "transcript--ribbon",
        "transcript--found",
        "transcript--found-here",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
        Binding("pageup,b", "page_up", "Page up", show=False),
        Binding("pagedown,space", "page_down", "Page down", show=False),
        Binding("home,g", "scroll_home", "First message", show=False),
        Binding("end,G", "scroll_end", "Last message", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries: list[Entry] = []
        self._rows = Rows()
        self._page = Page.of_width(Look(), 80)
        self._following = True
        self._cached: frozenset[str] = frozenset()
        self._ribbon = Segment(RIBBON)
        self._settling = False
        self._current: Entry | None = None
        self._search = Search()

    @property
    def entries(self) -> Sequence[Entry]:
        """What is shown, first to last."""
        return self._entries

    @property
    def following(self) -> bool:
        """Whether new text at the end scrolls into sight by itself."""
        return self._following

    @property
    def allow_select(self) -> bool:
        """Text can be selected with the mouse."""
        return True

    @property
    def current(self) -> Entry | None:
        """The message that was jumped to, while it is there."""
        return self._current

    def show(self, entries: Sequence[Entry]) -> None:
        """Show another conversation, at its end."""
        self._entries = list(entries)
        self._current = None
        self._following = True
        self._lay_out()

    def append(self, entry: Entry) -> None:
        """Add an entry at the end and go there: whoever adds one wants it seen."""
        self._entries.append(entry)
        self._rows.append(entry.guess_height(self._page))
        self._following = True
        self._settle()
        self._search_on(len(self._entries) - 1)
        self.refresh()

    def drop(self, entry: Entry) -> None:
        """Take an entry away."""
        self._entries.remove(entry)
        self._lay_out()

    def redraw(self, entry: ReplyEntry) -> None:
        """Show what changed in `entry` since it was drawn last."""
        index = self._index(entry)
        if not entry.is_drawn(self._page):
            return
        first = self._rows.top(index) + entry.redraw()
        moved = self._rows.resize(index, len(entry.strips(self._page)))
        self._settle()
        self._search_on(index)
        last = self._rows.total if moved else self._rows.top(index) + self._rows.height(index)
        self.refresh(Region(0, first - self.scroll_offset.y, self.size.width, max(1, last - first)))

    def _index(self, entry: Entry) -> int:
        return next(at for at in range(len(self._entries) - 1, -1, -1) if self._entries[at] is entry)

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
        self._search_on(index)
        self.refresh()

    def on_click(self, event: Click) -> None:
        """Textual's: a click on what folds, or on one of the arrows of `‹2/3›`."""
        row = self.scroll_offset.y + event.y - self.styles.padding.top
        if not 0 <= row < self._rows.total:
            return
        index = self._rows.at(row)
        entry = self._entries[index]
        if entry.folds_at(row - self._rows.top(index)):
            self.fold(entry)
        elif entry.message and (step := _step_at(self._strip_at(row).text, event.x - self.styles.padding.left)):
            self.post_message(VersionWanted(entry.message, step))

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

    def _search_on(self, index: int) -> None:
        """An entry changed."""
        if self._search.active:
            self._search_in(index)
            self._tell_found()

    def _show_match(self) -> None:
        if self._search.here is not None:
            index, match = self._search.here
            self._reveal(index, match[0].row)

    def _tell_found(self) -> None:
        self.post_message(Found(self._search.place, self._search.count, over=not self._search.pending))

    def _reveal(self, index: int, inside: int) -> None:
        """Bring a row of an entry into sight, a little below the top."""
        self._following = False
        self._draw(index)
        height = self.scrollable_content_region.height
        self._go(max(0, self._rows.top(index) + inside - (height // 4 if inside else 0)))
        self._settle()
        self._following = self.scroll_offset.y >= self.max_scroll_y
        self.refresh()

    def on_mount(self) -> None:
        """Textual's."""
        self._searching = self.set_interval(SEARCH_EVERY_S, self._search_more, pause=True)

    def notify_style_update(self) -> None:
        """The theme or the stylesheet changed: everything is drawn again."""
        super().notify_style_update()
        if self.is_mounted:
            self._lay_out()

    def on_resize(self, _event: Resize) -> None:
        """Wrap everything again where the width changed."""
        if self.scrollable_content_region.width != self._page.width:
            self._lay_out()
        else:
            self._settle()

    def _look(self) -> Look:
        styles = {name: component_style(self, _component(name)) for name in NAMES}
        return Look(**styles | {"base": self.rich_style})

    def _lay_out(self) -> None:
        """Begin again on a page of the present width and styles; what is at the top stays there."""
        if not self.size:
            self._reset_rows()  # it is hidden, and drawn when it is not
            return
        top = self.scroll_offset.y
        anchor = self._rows.at(top) if len(self._rows) else 0
        inside = top - self._rows.top(anchor) if len(self._rows) else 0
        self._ribbon = Segment(RIBBON, component_style(self, "transcript--ribbon"))
        page = Page.of_width(self._look(), self.scrollable_content_region.width)
        if page != self._page:
            self._page = page
        if self._search.active:
            self.find(self._search.text)
        self._reset_rows()
        if not self._following and anchor < len(self._rows):
            self._draw(anchor)
            self._go(self._rows.top(anchor) + min(inside, self._rows.height(anchor) - 1))
        self._settle()
        self.refresh()

    def _reset_rows(self) -> None:
        """Heights for all entries: those of what is drawn, guesses for the others."""
        self._rows.reset(
            [
                len(entry.strips(self._page)) if entry.is_drawn(self._page) else entry.guess_height(self._page)
                for entry in self._entries
            ]
        )

    def _draw(self, index: int) -> int:
        return self._rows.resize(index, len(self._entries[index].strips(self._page)))

    def _go(self, row: int) -> None:
        self.virtual_size = Size(self._page.width, self._rows.total)
        self.scroll_to(y=row, force=True)

    def _settle(self) -> None:
        """Draw what is in sight. What the person sees stays in place when a guess above it proves wrong."""
        if self._settling or not self.size:
            return
        self._settling = True
        try:
            if self._following:
                self._settle_end()
            else:
                self._settle_here()
        finally:
            self._settling = False

    def _settle_end(self) -> None:
        missing = self.scrollable_content_region.height
        for index in range(len(self._entries) - 1, -1, -1):
            self._draw(index)
            missing -= self._rows.height(index)
            if missing <= 0:
                break
        self._go(self._rows.total)

    def _settle_here(self) -> None:
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        while self._entries:
            first, last = self._rows.at(top), self._rows.at(top + height - 1)
            unseen = [at for at in range(first, last + 1) if not self._entries[at].is_drawn(self._page)]
            if not unseen:
                break
            begins_above = self._rows.top(unseen[0]) < top
            moved = self._draw(unseen[0])
            top = max(0, top + moved) if begins_above else top
        self._go(top)

    def _scroll_to(self, *args: Any, **options: Any) -> bool:
        # Never animated: a guess that proves wrong on the way moves the goal, and smoothness costs sixty pictures a
        # second.
        return super()._scroll_to(*args, **options | {"animate": False})

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Textual's: the person scrolled, or we did."""
        super().watch_scroll_y(old_value, new_value)
        if not self._settling:
            self._following = new_value >= self.max_scroll_y
            self._settle()

    def render_line(self, y: int) -> Strip:
        """Textual's: one row of the screen."""
        row = self.scroll_offset.y + y
        if row >= self._rows.total:
            return Strip.blank(self.size.width, self.rich_style)
        strip = self._marked(self._strip_at(row), row)
        selection = self.text_selection
        if selection is not None and (span := selection.get_span(row)) is not None:
            strip = _painted(strip, *span, self.screen.get_component_rich_style("screen--selection"))
        return strip.apply_offsets(0, row)

    def _strip_at(self, row: int) -> Strip:
        index = self._rows.at(row)
        strips = self._entries[index].strips(self._page)
        inside = row - self._rows.top(index)
        return strips[inside] if inside < len(strips) else Strip.blank(self.size.width, self.rich_style)

    def _marked(self, strip: Strip, row: int) -> Strip:
        """The strip of a row with what was found on it, and a mark where the current entry begins."""
        index = self._rows.at(row)
        inside = row - self._rows.top(index)
        for span, here in self._search.on_row(index, inside):
            name = "transcript--found-here" if here else "transcript--found"
            strip = _painted(strip, span.begin, span.end, component_style(self, name))
        if inside == 0 and self._entries[index] is self._current:
            at = self._page.left + MARGIN - 1
            style = component_style(self, "transcript--current")
            strip = Strip.join([strip.crop(0, at), Strip([Segment(CURRENT, style)]), strip.crop(at + 1)])
        if self._entries[index].message in self._cached and inside < self._rows.height(index) - 1:
            at = self._page.left - RIBBON_WIDTH
            strip = Strip.join([strip.crop(0, at), Strip([self._ribbon]), strip.crop(at + RIBBON_WIDTH)])
        return strip

    def show_cached(self, messages: frozenset[str]) -> None:
        """Mark the entries of these messages in the margin: they are in the KV cache."""
        if messages != self._cached:
            self._cached = messages
            self.refresh()

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """Textual's: the selected text, without the margin and the space after the lines."""
        begin = selection.start.y if selection.start else 0
        end = selection.end.y if selection.end else self._rows.total - 1
        margin = self._page.left + MARGIN
        lines: list[str] = []
        for row in range(begin, min(end, self._rows.total - 1) + 1):
            if (span := selection.get_span(row)) is not None:
                text = self._strip_at(row).text
                stop = len(text) if span[1] == -1 else span[1]
                lines.append(text[max(span[0], margin) : max(stop, margin)].rstrip())
        return "\n".join(lines), "\n"

    def selection_updated(self, selection: Selection | None) -> None:  # noqa: ARG002
        """Textual's: show it."""
        self.refresh()


def _step_at(line: str, column: int) -> int:
    """Where a click on `‹2/3›` at the beginning of a line leads: -1 on its first half, 1 on the other, 0 beside it."""
    found = VERSIONS.match(line)
    if found is None or not found.start(1) <= column < found.end(1):
        return 0
    return -1 if column < (found.start(1) + found.end(1)) / 2 else 1


def _painted(strip: Strip, start: int, end: int, style: Style) -> Strip:
    """`strip` with `style` on the characters from `start` to before `end`; -1 is the last."""
    segments: list[Segment] = []
    at = 0
    for text, old, control in strip:
        low = min(max(start - at, 0), len(text))
        high = len(text) if end == -1 else min(max(end - at, low), len(text))
        for part, paint in ((text[:low], False), (text[low:high], True), (text[high:], False)):
            if part:
                segments.append(Segment(part, (old or Style()) + style if paint else old, control))
        at += len(text)
    return Strip(segments, strip.cell_length)
