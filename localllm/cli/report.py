"""`--report F`: what was proven, as a JSON file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from localllm.errors import BadOutput


def check_report(path: Path) -> None:
    """Say now what would make writing it fail after all the work.

    Raises:
        BadOutput: it is a folder, or in a folder that does not exist.
    """
    if path.is_dir() or not path.parent.is_dir():
        what = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise BadOutput(f"The report cannot be written: {what}.", hint="Name a file to write: --report proof.json")


def write_report(path: Path, document: dict[str, Any], otherwise: str) -> None:
    """Write the document. `otherwise` says what there is all the same when that fails.

    Raises:
        BadOutput: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadOutput(f"The report {path} cannot be written: {error.strerror}. {otherwise}") from error
