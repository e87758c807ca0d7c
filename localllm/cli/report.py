"""`--report F`: what was proven, as a JSON file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from localllm.errors import BadOutput


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
