"""What a half-written word in the prompt may become: a `/` command, or the path of a file.

Knows nothing of widgets. Commands are found at once; `path_choices` reads a folder, and may wait for a disk.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal

from localllm import paths
from localllm.chat import commands

MOST_PATHS = 200
MOST_READ = 5000
"""Entries of a folder that are looked at: a folder of a million files shall not hold up the list."""

_MENTION = re.compile(r'(?:(?<=\s)|^)@("[^"]*|[^\s"]*)$')
_FILE = re.compile(r"/(attach|save|export)\s+(\S.*|)$")


@dataclass(frozen=True)
class Word:
    """The word before the cursor: `begin` is its first column, in the line of the cursor.

    A file to `save` to is a new one, in a folder that is there.
    """

    kind: Literal["command", "mention", "attach", "save"]
    text: str
    begin: int


@dataclass(frozen=True)
class Choice:
    """One thing that the word may become. `text` replaces it; `whole` when nothing has to follow."""

    text: str
    label: str
    meaning: str = ""
    whole: bool = True


def word_before(line: str, *, first: bool) -> Word | None:
    """The word at the end of `line`, which ends at the cursor and is the `first` of the message or not."""
    if first and re.fullmatch(r"/[\w?-]*", line):
        return Word("command", line, 0)
    if first and (found := _FILE.match(line)):
        return Word("attach" if found[1] == "attach" else "save", found[2], found.start(2))
    if found := _MENTION.search(line):
        return Word("mention", found[1], found.start(1))
    return None


def command_choices(typed: str, *, plain: bool = False) -> list[Choice]:
    """The commands that begin as `typed` does, of the app or of `chat --plain`."""
    return [
        Choice(
            f"/{command.name}{' ' if command.argument else ''}",
            command.usage,
            command.meaning,
            whole=not command.argument or command.argument.startswith("["),
        )
        for command in commands.matching(typed, plain=plain)
    ]


def path_choices(word: Word) -> list[Choice]:
    """The files and folders that the path in `word` may become, folders first. Reads one folder."""
    typed = word.text.removeprefix('"')
    folder, _, beginning = typed.rpartition("/")
    folder = f"{folder}/" if "/" in typed else ""
    try:
        with os.scandir(paths.expanded(folder or ".")) as entries:
            seen = [(entry.name, entry.is_dir()) for entry, _ in zip(entries, range(MOST_READ), strict=False)]
    except (OSError, ValueError):
        return []
    hidden = beginning.startswith(".")
    fitting = [
        (not is_folder, name.casefold(), name)
        for name, is_folder in seen
        if name.casefold().startswith(beginning.casefold()) and (hidden or not name.startswith("."))
        if name.isprintable() and '"' not in name
    ]
    return [
        Choice(_written(f"{folder}{name}", word, is_file=is_file), name if is_file else f"{name}/", whole=is_file)
        for is_file, _, name in sorted(fitting)[:MOST_PATHS]
    ]


def _written(path: str, word: Word, *, is_file: bool) -> str:
    """`path` as it is written after @, where a space would end it; a folder stays open for what is in it."""
    end = "" if is_file else "/"
    if word.kind != "mention":
        return path + end
    if " " in path or word.text.startswith('"'):
        return f'"{path}"' if is_file else f'"{path}{end}'
    return path + end
