"""The line in a transcript above which nothing is sent. Knows nothing of why it is there."""

from __future__ import annotations

from rich.text import Text
from textual.strip import Strip

from localllm.tui.entries import Entry, Page
from localllm.tui.wrapping import printable, wrapped

RULE = "╌"
TAKE_BACK = "F6 takes this back"


class CutEntry(Entry):
    """A rule that says how many messages above are not sent, the summary that is sent in their place, and how that is
    taken back."""

    def __init__(self, messages: int, summary: str = "") -> None:
        super().__init__()
        above = "the message above is" if messages == 1 else f"the {messages:,} messages above are"
        self._title = f"{above} not sent{', but this summary of them' if summary else ''} · {TAKE_BACK}"
        self._summary = printable(summary)

    def copied_text(self) -> str:
        """What the line says."""
        return f"{self._title}\n{self._summary}" if self._summary else self._title

    def _draw(self, page: Page) -> list[Strip]:
        look = page.look
        room = page.measure - len(self._title) - 2
        if room >= 2:
            left = room // 2
            lines = [Text(f"{RULE * left} {self._title} {RULE * (room - left)}", look.muted)]
        else:
            lines = wrapped(Text(self._title, look.muted), page.measure)
        if self._summary:
            lines += wrapped(Text(self._summary, look.quote), page.measure)
        return [page.strip(line) for line in lines]
