"""`--report F`: what was proven, as a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from localllm import small_files
from localllm.errors import BadOutput

_BEGINNINGS = (b'{\n "outfile": ', b'{\n "file": ')
"""How the reports of `convert` and of `verify` begin."""


def check_report(path: Path, outfile: Path | None = None) -> None:
    """Say now what would make writing it fail after all the work; `outfile` is what the work itself writes.

    Raises:
        BadOutput: it is a folder, in one that does not exist, or would replace anything but an older report.
    """
    what = ""
    if not path.parent.is_dir():
        what = f"there is no folder {path.parent}"
    elif path.is_dir():
        what = f"{path} is a folder"
    elif path.suffix.lower() == ".gguf" or (outfile is not None and path.resolve() == outfile.resolve()):
        what = f"{path} is the name of a model"
    elif path.exists() and not _is_replaced(path):
        what = f"{path} is there already and is no report"
    if what:
        raise BadOutput(f"The report cannot be written: {what}.", hint="Name a file to write: --report proof.json")


def _is_replaced(path: Path) -> bool:
    """Whether what is there is an older report, or an empty file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(max(map(len, _BEGINNINGS)))
    return not start or start.startswith(_BEGINNINGS)


def write_report(path: Path, document: dict[str, Any], otherwise: str) -> None:
    """Write the document. `otherwise` says what there is all the same when that fails.

    Raises:
        BadOutput: it cannot be written.
    """
    try:
        small_files.replace(path, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise BadOutput(f"The report {path} cannot be written: {error.strerror}. {otherwise}") from error
