"""The files that go into the next message, above the prompt: their names, and what they cost.

Holds them until the message is sent. Knows nothing of disks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.events import Click
from textual.widget import Widget

from localllm.chat.attachments import Attachment, Weighed
from localllm.counts import counted
from localllm.errors import LocalLLMError
from localllm.tui.component import component_style
from localllm.tui.messages import AttachmentsChanged
from localllm.tui.wrapping import printable, wrapped

HINT = "Backspace at the beginning removes the last"


class AttachmentLine(Widget):
    """Attachments, which a click removes, and files that the text names."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "attachment-line--name",
        "attachment-line--note",
        "attachment-line--trouble",
    }

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.files: list[Weighed] = []
        self._named: list[Weighed | LocalLLMError] = []
        self.display = False

    def add(self, *files: Weighed) -> None:
        """Put files into the next message; one that is there already is replaced."""
        names = {file.attachment.name for file in files}
        self.files = [file for file in self.files if file.attachment.name not in names] + list(files)
        self._changed()

    def take(self) -> list[Weighed]:
        """The files, which are no longer here."""
        taken, self.files, self._named = self.files, [], []
        self._changed()
        return taken

    def going_along(self) -> list[Attachment]:
        """The files, then those that the text names, each once."""
        named = [one.attachment for one in self._named if isinstance(one, Weighed)]
        kept = [file.attachment for file in self.files]
        return [*kept, *(one for one in named if one not in kept)]

    def drop_last(self) -> bool:
        """Remove the file that was added last, if there is one."""
        dropped = bool(self.files)
        self.files = self.files[:-1]
        self._changed()
        return dropped

    def show_named(self, named: Sequence[Weighed | LocalLLMError]) -> None:
        """Show what the text names."""
        if list(named) != self._named:
            self._named = list(named)
            self._changed()

    def _changed(self) -> None:
        self.display = bool(self.files or self._named)
        # From us, and not from the widget whose handler we are called in: Textual lets a message rise no further than
        # to who sent it, and the chat's screen is above the composer.
        self.post_message(AttachmentsChanged().set_sender(self))
        self.refresh(layout=True)

    def render(self) -> Text:
        """Textual's: a line for each file."""
        return Text("\n").join(line for file in self._lines() for line in file)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:  # noqa: ARG002
        """Textual's: the lines that wrap at `width`."""
        return sum(len(file) for file in self._lines(width))

    def _lines(self, width: int = 0) -> list[list[Text]]:
        rows = [
            *(self._row(file, HINT if file is self.files[-1] else "") for file in self.files),
            *(self._row(one, "named in the text") for one in self._named),
        ]
        return [wrapped(row, width or self.size.width or 80) for row in rows]

    def _row(self, file: Weighed | LocalLLMError, note: str) -> Text:
        name, quiet = (component_style(self, f"attachment-line--{part}") for part in ("name", "note"))
        if isinstance(file, LocalLLMError):
            return Text(f"✗ {printable(file.message)}", component_style(self, "attachment-line--trouble"))
        cost = f"{'' if file.exact else 'about '}{counted(file.tokens, 'token')}"
        row = Text("+ ", quiet).append(printable(file.attachment.name), name)
        return row.append(f"  {cost}", quiet).append(f" · {note}" if note else "", quiet)

    def on_click(self, event: Click) -> None:
        """Textual's: a click on a file takes it out."""
        at = event.y
        for place, lines in enumerate(self._lines()):
            at -= len(lines)
            if at < 0:
                if place < len(self.files):
                    del self.files[place]
                    self._changed()
                return
