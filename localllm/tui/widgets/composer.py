"""What the next message is made of: the words, the files that go along, and what a half-written word may become.

Has files read, apart from the app's thread. Knows nothing of what becomes of a message.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from localllm import paths
from localllm.chat.attachments import Attachment, Weighed, pasted
from localllm.chat.commands import unescaped
from localllm.runtime.responder import Responder
from localllm.tui.files import Files, about
from localllm.tui.messages import (
    Attached,
    AttachmentsChanged,
    BackspaceAtStart,
    ChoicePicked,
    Failed,
    FilesDropped,
    LongPaste,
    Mentioned,
    MessageMade,
    MessageRefused,
    NotAttached,
    PathsFound,
    PathWanted,
    PromptEdited,
)
from localllm.tui.widgets.attachment_line import AttachmentLine
from localllm.tui.widgets.prompt import Prompt
from localllm.tui.widgets.suggestions import Suggestions


class Composer(Vertical):
    """Suggestions, attachments and the prompt. `model` is asked what a file costs in tokens, once it is there."""

    def __init__(self, model: Callable[[], Responder | None], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._files = Files(model, self.post_message)
        self._suggestions = Suggestions(id="suggestions")
        self._attachments = AttachmentLine(id="attachments")
        self.prompt = Prompt(self._suggestions, lambda: bool(self._attachments.files or self._reading), id="prompt")
        self._errands = itertools.count()
        self._reading: dict[int, Path | Attachment] = {}
        """What is being read or weighed for the next message, by errand."""
        self._held: str | None = None
        self._making: tuple[int, list[Weighed], str] | None = None
        """The errand of a message and what it is made of, from Enter until it is handed on: the files that its words
        name must be read."""

    def compose(self) -> ComposeResult:
        """Textual's."""
        for part in (self._suggestions, self._attachments, self.prompt):
            with Horizontal(classes="measure"):
                yield part

    def make(self, text: str) -> None:
        """Make the message of what was typed and the files that go along; `MessageMade` or `MessageRefused` follows."""
        if self._held is not None or self._making is not None:
            self.prompt.put_back(text)
            self.notify("The message before is still on its way.", severity="warning")
        elif self._reading:
            self._held = text
        else:
            files, errand = self._attachments.take(), next(self._errands)
            self._making = (errand, files, text)
            if files or "@" in text:
                self._files.make_message(errand, text, files)
            else:
                self.post_message(MessageMade(errand, unescaped(text), text))

    def attach(self, path: Path) -> None:
        """Put a file into the next message; one that is sent meanwhile waits for it."""
        self._read(path)

    def _read(self, source: Path | Attachment) -> None:
        errand = next(self._errands)
        self._reading[errand] = source
        self._files.attach(errand, source)

    def files(self) -> list[Attachment]:
        """What goes along with the next message, as far as it is read: attached, or named in the text."""
        return self._attachments.going_along()

    def written(self) -> tuple[list[Attachment], str]:
        """What is not sent yet: the files that were attached, and the words, those that wait for a file included.

        A file that is still being read is a word that names it.
        """
        _, files, making = self._making or (0, [], "")
        pastes = [source for source in self._reading.values() if isinstance(source, Attachment)]
        read = [source for source in self._reading.values() if isinstance(source, Path)]
        named = " ".join(f'@"{paths.expanded(path).absolute()}"' for path in read)
        words = "\n".join(part for part in (named, making, self._held, self.prompt.text) if part)
        return [*(file.attachment for file in (*files, *self._attachments.files)), *pastes], words

    def clear(self) -> None:
        """Let go of all that is not sent, which is kept elsewhere: a message on its way, or a file that is being read,
        goes no further."""
        if self._making is not None or self._held is not None:
            self.notify("Your last message was not sent yet: it stays a draft.", severity="warning")
        self._attachments.take()
        self._held = self._making = None
        self._reading.clear()
        self.prompt.clear()

    def take_up(self, files: Sequence[Attachment], text: str) -> None:
        """Put files and words where they were when they were written, before what was typed since."""
        self._attachments.add(*(about(file, settled=True) for file in files))
        self.prompt.put_back(f"{text}\n" if text and self.prompt.text else text)

    def give_back(self, message: MessageMade) -> None:
        """A message cannot be sent now: it is to be written again."""
        self._attachments.add(*message.pending)
        self.prompt.put_back(message.typed)

    @on(MessageMade)
    def _made(self, event: MessageMade) -> None:
        if self._is_wanted(event.errand):
            self._making = None
        else:
            event.stop()

    def _is_wanted(self, errand: int) -> bool:
        return self._making is not None and self._making[0] == errand

    @on(MessageRefused)
    def _refused(self, event: MessageRefused) -> None:
        if not self._is_wanted(event.errand):
            event.stop()
            return
        self._making = None
        self._attachments.add(*event.pending)
        self.prompt.put_back(event.text)

    @on(FilesDropped)
    def _attach_all(self, event: FilesDropped) -> None:
        event.stop()
        for path in event.paths:
            self.attach(path)

    @on(LongPaste)
    def _attach_paste(self, event: LongPaste) -> None:
        event.stop()
        self._read(pasted(event.text, [file.name for file in self.written()[0]]))

    @on(Attached)
    def _attached(self, event: Attached) -> None:
        event.stop()
        if self._reading.pop(event.errand, None) is None:
            return
        self._attachments.add(event.file)
        if not self._reading and self._held is not None:
            text, self._held = self._held, None
            self.make(text)

    @on(NotAttached)
    def _not_attached(self, event: NotAttached) -> None:
        event.stop()
        if self._reading.pop(event.errand, None) is None:
            return
        self.post_message(Failed(event.error))
        if self._held is not None:
            self.prompt.put_back(self._held)
            self._held = None

    @on(PromptEdited)
    @on(AttachmentsChanged)
    def _edited(self) -> None:
        if "@" in self.prompt.text:
            self._files.weigh_mentions(self.prompt.text, self._attachments.files)
        else:
            self._attachments.show_named(())

    @on(Mentioned)
    def _mentioned(self, event: Mentioned) -> None:
        event.stop()
        if event.text == self.prompt.text:
            self._attachments.show_named(event.files)

    @on(PathWanted)
    def _find_paths(self, event: PathWanted) -> None:
        event.stop()
        self._files.complete(event.word)

    @on(PathsFound)
    def _offer(self, event: PathsFound) -> None:
        event.stop()
        self.prompt.offer(event.word, event.choices)

    @on(ChoicePicked)
    def _complete(self, event: ChoicePicked) -> None:
        event.stop()
        self.prompt.pick(event.choice)

    @on(BackspaceAtStart)
    def _take_out(self, event: BackspaceAtStart) -> None:
        event.stop()
        self._attachments.drop_last()
