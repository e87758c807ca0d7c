"""Named settings for chats, in a TOML file: a system prompt, how replies are made, how the model is loaded.

    [precise]
    system = "Answer briefly."
    sampling = { temperature = 0.2 }
    engine = { n_ctx = 16384 }

What a preset leaves out it does not change. Knows nothing of what the values mean.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localllm import small_files
from localllm.errors import BadSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_KINDS: dict[str, type] = {"system": str, "sampling": dict, "engine": dict}


@dataclass(frozen=True)
class Preset:
    """`system` None leaves the system prompt as it is; `sampling` and `engine` are values by name."""

    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> dict[str, Preset]:
    """The presets in the file, by name; none where there is no file.

    Raises:
        BadSettings: it cannot be read, or holds something else; says what.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadSettings(f"The presets in {path} cannot be read: {error}.", hint=_MEND) from error
    return {name: _preset(path, name, table) for name, table in document.items()}


_MEND = "Mend the file or move it away; it was left as it is."


def _preset(path: Path, name: str, table: object) -> Preset:
    if not isinstance(table, dict):
        raise BadSettings(f"{path}: {name} is no table of settings.", hint=_MEND)
    for key, value in table.items():
        kind = _KINDS.get(key)
        if kind is None or not isinstance(value, kind):
            raise BadSettings(
                f"{path}: the preset {name} has a wrong {key}.", hint=f"It has {', '.join(_KINDS)}. {_MEND}"
            )
    return Preset(table.get("system"), table.get("sampling", {}), table.get("engine", {}))


def keep(path: Path, name: str, preset: Preset) -> None:
    """Write a preset beside those that are there, or over the one of that name.

    Raises:
        BadSettings: as `read`; the name is empty; or the file cannot be written. It stays as it was.
    """
    if not name.strip():
        raise BadSettings("A preset needs a name.", hint="Write one into its field.")
    import tomlkit

    try:
        with small_files.locked(path):
            read(path)
            document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
            table = {"sampling": dict(preset.sampling), "engine": dict(preset.engine)}
            document[name.strip()] = table if preset.system is None else {"system": preset.system, **table}
            small_files.replace(path, tomlkit.dumps(document).encode())
    except OSError as error:
        raise BadSettings(f"The presets in {path} cannot be written: {error}.", hint="Nothing was changed.") from error
