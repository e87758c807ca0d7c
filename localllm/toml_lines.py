"""Where a key stands in a TOML file, for messages about its value: TOML readers do not keep lines.

Knows the usual ways to write tables and keys; of a key inside an inline table it finds the line of that table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADING = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*]")

Path = tuple["str | int", ...]
"""Names of tables from the outside in; the number of a table in an array, from 1 on, stands behind its name."""


def line_of(text: str, path: Sequence[str | int], key: str) -> int:
    """The line of `key` in the table at `path`, or of the table's heading where the key is not there; 0: neither is.

    `("model", 2, "file", 1)` is the first `[[model.file]]` of the second `[[model]]`.
    """
    wanted, heading = tuple(path), 0
    here: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        found = _HEADING.match(line)
        if found:
            here = _resolved(found[2], counts, entered=found[1] == "[[")
            if here == wanted:
                heading = number
        elif here == wanted and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
    return heading


def _resolved(name: str, counts: dict[Path, int], *, entered: bool) -> Path:
    """The path of a heading; `counts` are how often each array has been `entered`."""
    path: Path = ()
    parts = [part.strip().strip("\"'") for part in name.split(".")]
    for index, part in enumerate(parts):
        path = (*path, part)
        if entered and index == len(parts) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path])
    return path
