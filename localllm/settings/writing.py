"""Writes the settings: one key at a time, or a whole file that somebody edited; comments and order stay.

A file with a mistake is never written over, and of two writers none loses what the other wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localllm import paths, small_files
from localllm.errors import BadSettings
from localllm.settings.reading import ELSEWHERE, not_read, parse, read_file
from localllm.settings.schema import GROUPS, KEYS


def change(name: str, value: Any) -> None:
    """Set the key `name` to a value for TOML; None takes it out. Creates the file and its folder.

    Raises:
        BadSettings: the value is wrong, the file has a mistake, or it cannot be written; it stays as it was.
    """
    key = KEYS[name]
    if value is not None:
        try:
            key.kind.check(value)
        except ValueError:
            raise BadSettings(f"`{name}` must be {key.kind.said}, not {value!r}.") from None
    import tomlkit

    with _locked() as path:
        read_file(path)
        document = tomlkit.parse(read_text(path))
        if value is None:
            document.pop(name, None)
        else:
            document[name] = value
        _write(path, tomlkit.dumps(document))


def replace_all(text: str, before: str) -> None:
    """Make `text` the settings, if they are still `before`.

    Raises:
        BadSettings: the text has a mistake, or somebody else wrote in the meantime; the file stays as it was.
    """
    with _locked() as path:
        parse(text, path)
        if read_text(path) != before:
            raise BadSettings(f"{path} was changed by somebody else in the meantime.")
        _write(path, text)


def template() -> str:
    """A file in which nothing is set: every key with its meaning, commented out."""
    lines = ["# Settings of localllm. A # at the start of a line leaves its key at the default."]
    for group, about in GROUPS.items():
        lines += ["", f"# {about}"]
        for key in KEYS.values():
            if key.group == group:
                lines += ["", f"# {key.meaning}: {key.kind.said} (default: {key.otherwise})", f"#{key.name} = "]
    return "\n".join(lines) + "\n"


def text_now() -> str:
    """The file as it stands; empty where there is none.

    Raises:
        BadSettings: it cannot be read.
    """
    return read_text(paths.settings_file())


def draft_of(text: str) -> Path:
    """Where the settings `text` are edited: another place for another text, so that no draft outlives what it is of."""
    path = paths.settings_file()
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return path.with_name(f"{path.stem}.{digest}.draft{path.suffix}")


def drafts() -> list[Path]:
    """Every draft that was not finished."""
    path = paths.settings_file()
    return sorted(path.parent.glob(f"{path.stem}.*.draft{path.suffix}"))


def write_draft(draft: Path, text: str) -> None:
    """Begin a draft with `text`.

    Raises:
        BadSettings: it cannot be written.
    """
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise _not_written(draft, error) from error


def read_text(path: Path) -> str:
    """A file of settings, whatever bytes it has; empty where there is none.

    Raises:
        BadSettings: it cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise not_read(path, error) from error


@contextmanager
def _locked() -> Iterator[Path]:
    """The file, behind its links, while no other process writes it."""
    path = paths.settings_file()
    try:
        with small_files.locked(path):
            yield path.resolve()
    except OSError as error:
        raise _not_written(path, error) from error


def _write(path: Path, text: str) -> None:
    try:
        small_files.replace(path, text.encode())
    except UnicodeEncodeError as error:
        raise BadSettings(
            f"The settings {path} would be no UTF-8 text any more, because of {text[error.start : error.end]!a}.",
            hint="TOML holds nothing else. They are as they were.",
        ) from None
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> BadSettings:
    return BadSettings(
        f"The settings {path} cannot be written: {error.strerror}.",
        hint=ELSEWHERE,
    )
