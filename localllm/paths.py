"""Where models, chats, logs, settings and modules live. Makes no folder until somebody writes to it.

`LOCALLLM_HOME` moves everything under one folder.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

_MAC = "~/Library/Application Support"


def home() -> Path:
    """The folder that holds everything that belongs to the person: models, chats, snapshots."""
    override = os.environ.get("LOCALLLM_HOME")
    return expanded(override) if override else _folder("XDG_DATA_HOME", "~/.local/share", _MAC)


def models_dirs(first: Iterable[Path]) -> list[Path]:
    """Folders searched for GGUF files, first match first: those of the settings, home, the checkout's `models/`."""
    dirs = [*first, home() / "models"]
    checkout = Path(__file__).resolve().parent.parent
    if (checkout / "pyproject.toml").is_file():
        dirs.append(checkout / "models")
    return dirs


def settings_file() -> Path:
    """The TOML file of the person's settings."""
    override = os.environ.get("LOCALLLM_HOME")
    folder = expanded(override) if override else _folder("XDG_CONFIG_HOME", "~/.config", _MAC)
    return folder / "settings.toml"


def chats_file() -> Path:
    """The SQLite database of all chats."""
    return home() / "chats.sqlite3"


def presets_file() -> Path:
    """The TOML file of named settings for chats."""
    return home() / "presets.toml"


def snapshots_dir() -> Path:
    """The folder of what was computed of conversations, in files that may be removed at any time."""
    return home() / "snapshots"


def tuned_dir() -> Path:
    """The folder of what `localllm tune` found, one small file for each model and machine."""
    return home() / "tuned"


def used_file() -> Path:
    """When each model was loaded last."""
    return home() / "used.json"


def headers_file() -> Path:
    """What the headers of model files say, so that a list need not read them again. May be removed at any time."""
    return home() / "headers.json"


def log_file() -> Path:
    """Where llama.cpp's own log goes when it is not asked for on the screen."""
    override = os.environ.get("LOCALLLM_HOME")
    folder = expanded(override) if override else _folder("XDG_STATE_HOME", "~/.local/state", "~/Library/Logs")
    return folder / "log" / "llama.log"


def _folder(variable: str, usual: str, mac: str) -> Path:
    """Our folder in the one that `variable` names, else in the `usual` one, or in that of a Mac.

    Source: XDG Base Directory Specification, which ignores what is not absolute. `platformdirs` says the same, but
    importing it takes as long as reading the header of a model.
    """
    named = Path(os.environ.get(variable, ""))
    return (named if named.is_absolute() else expanded(mac if sys.platform == "darwin" else usual)) / "localllm"


def expanded(text: str | Path) -> Path:
    """The path with the home folder for a `~` or `~name` at its beginning; unchanged where nobody has that name."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def exists(path: Path) -> bool:
    """Whether there is such a file or folder. No system has one of a name that is too long, such as a prompt."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def search_path() -> list[str]:
    """Where this process finds its modules, the current folder left out unless it was asked for by name."""
    here = str(Path(__file__).resolve().parent.parent)
    return [str(Path(entry).absolute()) for entry in sys.path if entry] + [here]


def is_hash(path: Path) -> bool:
    """Whether the name of the file tells a person nothing, as in the store of Ollama."""
    import re

    return re.fullmatch(r"(sha256[-:])?[0-9a-f]{64}", path.name) is not None
