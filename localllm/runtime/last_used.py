"""When each model on this machine was loaded last, in one small file. A file that cannot be written is no error."""

from __future__ import annotations

import os
import time
from pathlib import Path

from localllm import paths, small_files


def note(path: Path) -> None:
    """The model at `path` was loaded now.

    Of two processes that note at once one may be forgotten: there is nothing to repair.
    """
    moments = {**read(), os.path.realpath(path): int(time.time())}
    small_files.keep_json(paths.used_file(), moments)


def read() -> dict[str, int]:
    """The seconds since 1970 of the last load of each file, by its path without links."""
    document = small_files.read_json(paths.used_file())
    return {path: moment for path, moment in document.items() if type(moment) is int}
