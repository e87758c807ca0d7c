"""Reads the settings: the file, above it the environment. A mistake is told with its line or variable, never passed by.

Writes nothing.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm import paths
from localllm.errors import BadSettings
from localllm.settings.schema import KEYS, UserSettings

EDIT = "`localllm config edit` opens the file, `localllm config --help` shows every key."
ELSEWHERE = "LOCALLLM_HOME names another folder for everything that is yours."


@dataclass(frozen=True)
class Loaded:
    """The settings that count, and for each that is set its value as it was written and where that stands."""

    settings: UserSettings
    written: Mapping[str, Any]
    sources: Mapping[str, str]


def load() -> Loaded:
    """The settings as they are now.

    Raises:
        BadSettings: the file cannot be read, has a mistake, or a variable has one.
    """
    path = paths.settings_file()
    written = read_file(path)
    sources = dict.fromkeys(written, "file")
    values = {name: KEYS[name].kind.check(value) for name, value in written.items()}
    for name, key in KEYS.items():
        text = os.environ.get(key.variable)
        if not text:
            continue
        value = key.kind.from_text(text)
        try:
            values[name] = key.kind.check(value)
        except ValueError:
            raise BadSettings(
                f"{key.variable} in the environment must be {key.kind.said}, not {text!r}.",
                hint=f"Unset it, or set it to another value. It is the setting `{name}`: {key.meaning}.",
            ) from None
        written[name], sources[name] = value, "environment"
    return Loaded(UserSettings(**values), written, sources)


def read_file(path: Path) -> dict[str, Any]:
    """What stands in the file, by key; nothing where there is no file. Every value is right for its key.

    Raises:
        BadSettings: it cannot be read or has a mistake; names the line and the key.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise not_read(path, error) from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"The settings {path} are no UTF-8 text, at byte {error.start:,}.", hint=EDIT) from error
    return parse(text, path)


def parse(text: str, path: Path) -> dict[str, Any]:
    """The same of a text, which is told to be in `path`.

    Raises:
        BadSettings: it has a mistake; names the line and the key.
    """
    # Imported late, as most commands that show help need no settings.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    from localllm.toml_lines import line_of

    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"The settings {path} are not valid TOML: {error}.", hint=EDIT) from error
    for name, value in document.items():
        line = line_of(text, (), name) or line_of(text, (name,), "")
        if name not in KEYS:
            raise BadSettings(f"{path}, line {line}: there is no setting `{name}`.", hint=nearest(name))
        try:
            KEYS[name].kind.check(value)
        except ValueError:
            raise BadSettings(
                f"{path}, line {line}: `{name}` must be {KEYS[name].kind.said}, not {value!r}.", hint=EDIT
            ) from None
    return document


def not_read(path: Path, error: OSError) -> BadSettings:
    """What to say of a file that the system does not let us read."""
    return BadSettings(f"The settings {path} cannot be read: {error.strerror}.", hint=ELSEWHERE)


def nearest(name: str) -> str:
    """What to say of a key that there is not."""
    near = difflib.get_close_matches(name.lower().replace("-", "_"), KEYS, n=3, cutoff=0.5)
    return f"Nearest: {', '.join(near)}. {EDIT}" if near else EDIT


def unknown_variables() -> list[tuple[str, str]]:
    """Variables of the environment that look like settings and are none, each with the nearest that is, or empty."""
    known = {key.variable for key in KEYS.values()} | {"LOCALLLM_HOME"}
    unknown = sorted(name for name in os.environ if name.startswith("LOCALLLM_") and name not in known)
    return [(name, next(iter(difflib.get_close_matches(name, known, n=1)), "")) for name in unknown]
