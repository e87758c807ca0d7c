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
        BadOutput: it is a folder or a model, or in a folder that does not exist.
    """
    what = f"{path} is a folder" if path.is_dir() else f"{path} is a model" if _is_model(path) else ""
    if not path.parent.is_dir():
        what = f"there is no folder {path.parent}"
    if what:
        raise BadOutput(f"The report cannot be written: {what}.", hint="Name a file to write: --report proof.json")


def _is_model(path: Path) -> bool:
    from localllm.convert.gguf_source import is_gguf

    return is_gguf(path)


def write_report(path: Path, document: dict[str, Any], otherwise: str) -> None:
    """Write the document. `otherwise` says what there is all the same when that fails.

    Raises:
        BadOutput: it cannot be written.
    """
    if _is_model(path):
        raise BadOutput(f"The report {path} cannot be written: that is the model. {otherwise}")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadOutput(f"The report {path} cannot be written: {error.strerror}. {otherwise}") from error
