"""What a person prefers, in one TOML file and in the environment: read here by every command, and by the library.

The environment goes before the file; flags go before both, and are not known here.
"""

from __future__ import annotations

from pathlib import Path

from localllm import paths
from localllm.settings.reading import Loaded, load
from localllm.settings.schema import GROUPS, KEYS, Key, UserSettings

__all__ = ["GROUPS", "KEYS", "Key", "Loaded", "UserSettings", "load", "models_dirs"]


def models_dirs() -> list[Path]:
    """The folders that are searched for GGUF files, first match first; models are put into the first.

    Raises:
        BadSettings: the settings have a mistake.
    """
    return paths.models_dirs(load().settings.models or ())
