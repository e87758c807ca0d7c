"""Text files in a message: how they are read, written into it, and found in it again.

A message stays plain text: each file stands before what the person said, under its name and in a code fence. So a
chat needs no other column, and an export shows what the model saw. Knows nothing of screens or models.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import stat
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from localllm import paths
from localllm.errors import BadAttachment

MAX_BYTES = 2 << 20
"""Larger files are refused before they are read: no context of a local model holds so much."""

MOST_DROPPED = 20_000
"""Characters: a longer paste is a text, and not looked at for names of files."""

MOST_TYPED_LINES, MOST_TYPED = 1000, 100_000
"""Lines and characters: a longer paste goes along with a message like a file. No field to write in is quick with it."""

_HEADING = "Attached file: "
_ATTACHED = re.compile(
    r"Attached file: (?P<name>[^\n]+)\n\n(?P<fence>`{3,})[^\n`]*\n(?P<text>.*?)\n(?P=fence)(?:\n\n|\Z)", re.S
)
_MENTION = re.compile(r'(?:(?<=\s)|^)@(?:"([^"\n]+)"|([^\s"]+))')
_SUFFIX = re.compile(
    r"[^@(){}]+\.(?:c|cpp|css|csv|docx?|go|h|html?|ini|ipynb|java|jpe?g|jsonl?|js|log|md|pdf|png|py|rs|rst|sh|sql|tex|toml"
    r"|tsv?|txt|xml|ya?ml)",
    re.I,
)
_AS_WORD = "A space after the @ makes it a word of the message."


@dataclass(frozen=True)
class Attachment:
    """A file as it was when it was read: the name that the model is told, and its text."""

    name: str
    text: str


@dataclass(frozen=True)
class Weighed:
    """An attachment with the tokens that it takes, `exact` where the model that will read them counted.

    One that is `settled` was part of a message before: words that name it mean it as it was then.
    """

    attachment: Attachment
    tokens: int
    exact: bool
    settled: bool = False


def read(path: Path) -> Attachment:
    """The text file at `path`. Blocks while it is read.

    Raises:
        BadAttachment: it is missing, no file, too large, or no text.
    """
    path = paths.expanded(path)
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise BadAttachment(f"{path} is a folder.", hint="Attach the files in it one by one.")
        # Opening a pipe or a device could wait for ever.
        if not stat.S_ISREG(found.st_mode):
            raise BadAttachment(f"{path} is no file that can be read to its end.")
        if found.st_size > MAX_BYTES:
            raise _too_large(path, found.st_size)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if len(data) > MAX_BYTES:
        raise _too_large(path, len(data))
    return Attachment(_name(path), _text(path, data))


def _unreadable(path: Path, error: Exception) -> BadAttachment:
    if isinstance(error, FileNotFoundError):
        return BadAttachment(f"There is no file {path}.", hint=f"Relative paths begin in {Path.cwd()}.")
    return BadAttachment(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.")


def _too_large(path: Path, size: int) -> BadAttachment:
    return BadAttachment(
        f"{path} is too large to attach: {size / (1 << 20):.1f} MiB, and the limit is {MAX_BYTES >> 20} MiB.",
        hint="Attach the part of it that matters.",
    )


def _name(path: Path) -> str:
    """The path below the current folder, or the name alone: a home folder is nobody's business."""
    try:
        return path.absolute().relative_to(Path.cwd()).as_posix()
    except ValueError:
        return path.name


def _text(path: Path, data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _no_text(path, f"it is not UTF-8 at byte {error.start:,}", or_else=_older(path, data)) from error
    if "\0" in text:
        raise _no_text(path, "it holds zero bytes")
    return text.replace("\r\n", "\n")


def _no_text(path: Path, why: str, or_else: str = "") -> BadAttachment:
    hint = or_else or "Only text can be attached. Convert it first, for instance to .txt."
    return BadAttachment(f"{path} is not a text file: {why}.", hint=hint)


def _older(path: Path, data: bytes) -> str:
    """What makes UTF-8 of a text that was written in an older code; empty where it is hardly text."""
    printable = data.translate(None, _CONTROL)
    if len(printable) < len(data):
        return ""
    old, new = (shlex.quote(str(file)) for file in (path, path.with_suffix(f".utf8{path.suffix}")))
    return (
        "It may be text of an older program. "
        f"iconv -f windows-1252 -t utf-8 {old} > {new}  makes one that can be attached."
    )


_CONTROL = bytes(code for code in range(32) if code not in b"\t\n\r\f")


def joined(attachments: Iterable[Attachment], said: str) -> str:
    """The message that holds the files, and after them what the person said."""
    parts = []
    for attachment in attachments:
        longest = max((len(run) for run in re.findall("`+", attachment.text)), default=0)
        fence = "`" * max(3, longest + 1)
        language = attachment.name.rpartition(".")[2] if "." in attachment.name else ""
        language = language if re.fullmatch(r"\w+", language) else ""
        name = " ".join(attachment.name.split())
        parts.append(f"{_HEADING}{name}\n\n{fence}{language}\n{attachment.text.removesuffix(chr(10))}\n{fence}")
    return "\n\n".join([*parts, said] if said else parts)


def split(message: str) -> tuple[list[Attachment], str]:
    """The files at the beginning of a message, and what the person said after them."""
    found: list[Attachment] = []
    at = 0
    while match := _ATTACHED.match(message, at):
        found.append(Attachment(match["name"], match["text"]))
        at = match.end()
    return found, message[at:]


def summary(message: str) -> str:
    """What a person would call the message: what was said, or the names of its files."""
    attached, said = split(message)
    return said if said.strip() or not attached else ", ".join(attachment.name for attachment in attached)


def settled(files: Iterable[Weighed]) -> set[str]:
    """The names that need not be read again."""
    return {file.attachment.name for file in files if file.settled}


def mentioned(text: str, known: Container[str] = ()) -> list[Path]:
    """The files that `text` names as `@path` or `@"a path"`, each once, but for those whose names are `known`.

    A word after @ that is no file is a word.
    """
    return [path for path in _named(text, known) if _is_file(path)]


def read_mentioned(text: str, known: Container[str] = ()) -> list[Attachment]:
    """The files that `text` names as `@path`, but for those whose names are `known`. Blocks while they are read.

    Raises:
        BadAttachment: one of them is missing or no text. A model that is sent the name alone invents the contents.
    """
    try:
        return [read(path) for path in _named(text, known)]
    except BadAttachment as error:
        raise BadAttachment(error.message, hint=f"{error.hint} {_AS_WORD}".strip()) from None


def _named(text: str, known: Container[str]) -> list[Path]:
    """What `text` names after an @ and is not `known`: the files that there are, and what looks like a path to one."""
    found: dict[Path, None] = {}
    for match in _MENTION.finditer(text):
        # A full stop or a comma after a name belongs to the sentence.
        names = dict.fromkeys((match[1] or match[2], (match[1] or match[2]).rstrip(".,;:!?)")))
        path = next((path for name in names if name and _is_file(path := paths.expanded(name))), None)
        *_, bare = names
        if path is not None:
            found[path] = None
        elif _looks_like_a_path(bare):
            found[paths.expanded(bare)] = None
    return [path for path in found if _name(path) not in known]


def _looks_like_a_path(name: str) -> bool:
    """Whether a word after an @ can hardly mean anything else: `@someone`, `@types/node` and `@app.get('/x')` can."""
    if re.match(r"(?:~?|\.\.?)/\w", name):
        return True
    folder, slash, _ = name.partition("/")
    # Of `/x`, `./x` and `~/x` the first folder is always there.
    return bool(slash and folder.strip(".~") and _is_folder(Path(folder))) or _SUFFIX.fullmatch(name) is not None


def is_long(paste: str) -> bool:
    """Whether a paste is better sent along like a file than put among what was typed."""
    return len(paste) > MOST_TYPED or paste.count("\n") >= MOST_TYPED_LINES


def pasted(text: str, taken: Iterable[str]) -> Attachment:
    """A long paste as a file, under a name that is not `taken`."""
    names = set(taken)
    return Attachment(next(name for number in itertools.count(1) if (name := f"paste {number}") not in names), text)


def dropped(paste: str) -> list[Path]:
    """The files that a paste names when they were dragged into the terminal; empty if it is anything else.

    Terminals paste absolute paths, in quotes, with backslashes before spaces, or as `file://` addresses.
    """
    text = paste.strip()
    if len(text) > MOST_DROPPED or (
        not text.startswith(("/", "'/", '"/', "file:///")) and not re.match(r"['\"]?[A-Za-z]:\\", text)
    ):
        return []
    if _is_file(whole := Path(text)):
        return [whole]
    try:
        words = shlex.split(text, posix=os.name == "posix")
    except ValueError:
        return []
    files = [Path(unquote(urlsplit(word).path)) if word.startswith("file://") else Path(word) for word in words]
    return files if files and all(file.is_absolute() and _is_file(file) for file in files) else []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
