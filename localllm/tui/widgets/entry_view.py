"""Entries below each other in a view that scrolls: one line renderer, whatever their number.

Entries are drawn when they come into sight; until then their height is a guess. Follows the end unless the person
scrolled up. Knows nothing of what the entries are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget

from localllm.tui.component import component_style
from localllm.tui.entries import MARGIN, Entry, Page
from localllm.tui.look import NAMES, Look
from localllm.tui.reply_entry import ReplyEntry
from localllm.tui.rows import Rows
from localllm.tui.strips import painted


def _component(name: str) -> str:
    return f"transcript--{name.replace('_', '-')}"


class EntryView(ScrollView):
    """Entries on one page. Subclasses mark rows (`_marked`), and are told what changed (`_changed`, `_laid_out`)."""

    ALLOW_SELECT = True
    COMPONENT_CLASSES: ClassVar[set[str]] = {_component(name) for name in NAMES}
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
        self._settling = False

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

    def show(self, entries: Sequence[Entry]) -> None:
        """Show another conversation, at its end."""
        self._entries = list(entries)
        self._following = True
        self._lay_out()

    def append(self, entry: Entry) -> None:
        """Add an entry at the end and go there: whoever adds one wants it seen."""
        self._entries.append(entry)
        self._rows.append(entry.guess_height(self._page))
        self._following = True
        self._settle()
        self._changed(len(self._entries) - 1)
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
        self._changed(index)
        last = self._rows.total if moved else self._rows.top(index) + self._rows.height(index)
        self.refresh(Region(0, first - self.scroll_offset.y, self.size.width, max(1, last - first)))

    def _changed(self, index: int) -> None:
        """An entry is another than it was."""

    def _laid_out(self) -> None:
        """The page is another, or the entries are."""

    def _marked(self, strip: Strip, row: int) -> Strip:  # noqa: ARG002
        """The strip of a row with what stands beside or on it."""
        return strip

    def _index(self, entry: Entry) -> int:
        return next(at for at in range(len(self._entries) - 1, -1, -1) if self._entries[at] is entry)

    def _reveal(self, index: int, inside: int) -> None:
        """Bring a row of an entry into sight, a little below the top."""
        self._following = False
        self._draw(index)
        height = self.scrollable_content_region.height
        self._go(max(0, self._rows.top(index) + inside - (height // 4 if inside else 0)))
        self._settle()
        self._following = self.scroll_offset.y >= self.max_scroll_y
        self.refresh()

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
        page = Page.of_width(self._look(), self.scrollable_content_region.width)
        if page != self._page:
            self._page = page
        self._laid_out()
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
        self._resize(Size(self._page.width, self._rows.total))
        self.scroll_to(y=row, force=True)

    def _resize(self, size: Size) -> None:
        """Scroll over so many rows from now on."""
        scrolls = self.show_vertical_scrollbar and size.height > self.container_size.height
        if scrolls and size.width == self.virtual_size.width:
            # Nothing else on the screen moves, and Textual would lay out all of it: most of what a frame costs.
            if size != self.virtual_size:
                self.set_reactive(Widget.virtual_size, size)
                self.vertical_scrollbar.window_virtual_size = size.height
                self.refresh()
        else:
            self.virtual_size = size

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
            strip = painted(strip, *span, self.screen.get_component_rich_style("screen--selection"))
        return strip.apply_offsets(0, row)

    def _strip_at(self, row: int) -> Strip:
        index = self._rows.at(row)
        strips = self._entries[index].strips(self._page)
        inside = row - self._rows.top(index)
        return strips[inside] if inside < len(strips) else Strip.blank(self.size.width, self.rich_style)

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
