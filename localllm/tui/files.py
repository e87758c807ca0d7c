"""The person's files, read apart from the app's thread: what a path may become, what a file costs, the message with it.

Answers come back as messages. Knows nothing of widgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from textual.message import Message

from localllm.chat import attachments
from localllm.chat.attachments import Attachment, Weighed
from localllm.chat.commands import unescaped
from localllm.chat.completing import Word, path_choices
from localllm.counts import counted
from localllm.errors import BadAttachment, LocalLLMError
from localllm.runtime.responder import Responder
from localllm.tui import background
from localllm.tui.amounts import tokens
from localllm.tui.messages import Attached, Crashed, Mentioned, MessageMade, MessageRefused, NotAttached, PathsFound

CHARACTERS_PER_TOKEN = 4
"""About so many, while no model is there to count."""


def about(attachment: Attachment, *, settled: bool = False) -> Weighed:
    """What a file costs, as far as it can be told without a model."""
    return Weighed(attachment, len(attachment.text) // CHARACTERS_PER_TOKEN + 1, exact=False, settled=settled)


class Files:
    """Jobs on files, one after the other; `post` gets what they find, from their thread.

    An `errand` is a number that comes back with the answer: who asked may have no use for it any more.
    """

    def __init__(self, model: Callable[[], Responder | None], post: Callable[[Message], object]) -> None:
        self._model = model
        self._post = post
        self._jobs = background.Queue("files", lambda error: post(Crashed(error)))
        self._wanted: Word | None = None
        self._text = ""

    def complete(self, word: Word) -> None:
        """Find what the path in `word` may become."""
        self._wanted = word

        def job() -> None:
            # Letters come faster than a slow disk answers: only the last is of interest.
            if word is self._wanted:
                self._post(PathsFound(word, path_choices(word)))

        self._jobs.put(job)

    def attach(self, errand: int, source: Path | Attachment) -> None:
        """Read a file that is to go into the next message, or weigh what is there like one."""

        def job() -> None:
            try:
                attachment = attachments.read(source) if isinstance(source, Path) else source
                self._post(Attached(errand, self._weighed(attachment)))
            except LocalLLMError as error:
                self._post(NotAttached(errand, error))

        self._jobs.put(job)

    def weigh_mentions(self, text: str, pending: Sequence[Weighed]) -> None:
        """Say what the files cost that `text` names beside the `pending` ones."""
        self._text, known = text, attachments.settled(pending)

        def job() -> None:
            if text == self._text:
                self._post(Mentioned(text, [self._weighed_or_why(path) for path in attachments.mentioned(text, known)]))

        self._jobs.put(job)

    def make_message(self, errand: int, text: str, pending: Sequence[Weighed]) -> None:
        """Read the files that `text` names, and put them and the `pending` ones before it."""

        def job() -> None:
            kept, known = [one.attachment for one in pending], attachments.settled(pending)
            try:
                named = [self._weighed(file).attachment for file in attachments.read_mentioned(text, known)]
            except LocalLLMError as error:
                self._post(MessageRefused(errand, text, pending, error))
            else:
                files = [*kept, *(one for one in named if one not in kept)]
                self._post(MessageMade(errand, attachments.joined(files, unescaped(text)), text, pending))

        self._jobs.put(job)

    def _weighed_or_why(self, path: Path) -> Weighed | LocalLLMError:
        try:
            return self._weighed(attachments.read(path))
        except LocalLLMError as error:
            return error

    def _weighed(self, attachment: Attachment) -> Weighed:
        model = self._model()
        if model is None:
            return about(attachment)
        cost = Weighed(attachment, len(model.tokenize(attachment.text)), exact=True)
        if cost.tokens > model.info.n_ctx:
            raise BadAttachment(
                f"{attachment.name} does not fit: {counted(cost.tokens, 'token')},"
                f" and the context holds {tokens(model.info.n_ctx)}.",
                hint="Attach the part of it that matters, or load the model with a larger context (--ctx).",
            )
        return cost
