"""Every error that localllm raises on purpose, in one tree.

    LocalLLMError
    ├── ModelNotFound        no such file, catalogue name or hub repo
    ├── BadModelFile         not a GGUF, truncated, inconsistent
    ├── UnsupportedModel     an architecture, tokenizer or rope type that is not known
    ├── BadCheckpoint        missing shard, wrong shape, tensor nobody consumed
    ├── BadOutput            the output exists, cannot be written, or the disk is full
    ├── DoesNotFit           needs more memory than there is
    ├── ContextFull          the conversation is longer than the context
    ├── BadTemplate          the model has no chat template, or it does not render
    ├── BadText              a text is no valid UTF-8
    ├── BadGrammar           a grammar does not parse, or a JSON schema cannot be expressed as one
    ├── DownloadFailed       what arrived is kept; the same call resumes
    ├── EngineDied           the engine ended or failed; the conversation is safe
    ├── BadWorker            a worker does not answer, is none, or speaks another version
    ├── BadCommand           a / command of a chat that there is not, or that was written wrong
    ├── BadAttachment        a file for a message that is missing, too large, or no text
    ├── BadChat              no such chat, or a file that holds none
    ├── BadStore             the chats on disk are locked, damaged, or from a newer version
    ├── BadSettings          the settings have a mistake, or cannot be written
    ├── MissingPackage       an extra that this command needs is not installed
    └── Cancelled            stopped by the person who asked

The message says what happened and to which file; `hint` says what to do next. Mistakes of the programmer stay Python's
own (`TypeError`, `ValueError`).
"""

from __future__ import annotations


class LocalLLMError(Exception):
    """Base of the tree. `hint` is one or two sentences on what to do next, or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def message(self) -> str:
        """What happened, without the hint."""
        return str(self.args[0])

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[LocalLLMError], message: str, hint: str) -> LocalLLMError:
    return kind(message, hint=hint)


class ModelNotFound(LocalLLMError):
    """No such file, catalogue name or hub repo; says the nearest names."""


class BadModelFile(LocalLLMError):
    """Not a GGUF, truncated or inconsistent; says the byte and the field."""


class UnsupportedModel(LocalLLMError):
    """An architecture, tokenizer or rope type that is not known: never guessed."""


class BadCheckpoint(LocalLLMError):
    """A checkpoint with a missing shard, a wrong shape, or a tensor nobody consumed."""


class BadOutput(LocalLLMError):
    """The output exists already, cannot be written, or the disk is full; nothing is left behind."""


class DoesNotFit(LocalLLMError):
    """Says what needs how much, what there is, and the largest setting that fits."""


class ContextFull(LocalLLMError):
    """The conversation is longer than the context: says by how much, and the choices."""


class BadTemplate(LocalLLMError):
    """The model has no chat template, or the template does not render this conversation."""


class BadText(LocalLLMError):
    """A text holds what is no character, because it was no valid UTF-8; says where."""


class BadGrammar(LocalLLMError):
    """A grammar does not parse, says where; or a JSON schema cannot be expressed as one, says what."""


class DownloadFailed(LocalLLMError):
    """A download ended early; what arrived is kept and the same call resumes."""


class EngineDied(LocalLLMError):
    """The engine failed or its process ended; the conversation is safe."""


class BadWorker(LocalLLMError):
    """A worker that does not answer, is none, or speaks another version; or one that cannot serve."""


class BadCommand(LocalLLMError):
    """A `/` command of a chat that does not exist, or lacks what it takes; says the nearest."""


class BadAttachment(LocalLLMError):
    """A file that was to go into a message is missing, too large, or no text; says which and why."""


class BadChat(LocalLLMError):
    """No chat goes by that name, says the nearest; or a file to import holds none."""


class BadStore(LocalLLMError):
    """The file of chats is locked, damaged, cannot be written, or was made by a newer version; it is left as it is."""


class BadSettings(LocalLLMError):
    """Settings, of a chat or of everything, have a mistake, says where; or they cannot be written."""


class MissingPackage(LocalLLMError):
    """A command needs an extra that is not installed; says the `pip` line that adds it."""


class Cancelled(LocalLLMError):
    """The person or program that asked for it stopped it."""


ERRORS: dict[str, type[LocalLLMError]] = {
    kind.__name__: kind
    for kind in (
        LocalLLMError,
        ModelNotFound,
        BadModelFile,
        UnsupportedModel,
        BadCheckpoint,
        BadOutput,
        DoesNotFit,
        ContextFull,
        BadTemplate,
        BadText,
        BadGrammar,
        DownloadFailed,
        EngineDied,
        BadWorker,
        BadCommand,
        BadAttachment,
        BadChat,
        BadStore,
        BadSettings,
        MissingPackage,
        Cancelled,
    )
}
"""Each error by name, so that one can cross a process border and come out as itself."""
