"""What a person prefers, in one TOML file and in the environment: read here by every command, and by the library.

The environment goes before the file; flags go before both, and are not known here. Importing the package reads nothing
and is quick, for `--help`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.settings.reading import Loaded


def load() -> Loaded:
    """The settings as they are now.

    Raises:
        BadSettings: the file cannot be read, has a mistake, or a variable has one.
    """
    from localllm.settings import reading

    return reading.load()


def models_dirs() -> list[Path]:
    """The folders that are searched for GGUF files, first match first; what is fetched from an address goes into the
    first.

    Raises:
        BadSettings: the settings have a mistake.
    """
    from localllm import paths

    return paths.models_dirs(load().settings.models or ())
