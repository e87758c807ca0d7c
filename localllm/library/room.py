"""Whether what is to be written has room on the disk, asked before its first byte."""

from __future__ import annotations

import shutil
from pathlib import Path

from localllm.errors import BadOutput


def refuse_without_room(what: str, folder: Path, size: int, hint: str) -> None:
    """Say that `what`, `size` bytes more, does not fit where `folder` is, or will be made.

    Raises:
        BadOutput: they do not; tells how many are missing. Or the folder cannot be looked into.
    """
    try:
        place = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise BadOutput(f"{folder} cannot be looked into: {error.strerror or error}.", hint=hint) from error
    if free < size:
        raise BadOutput(
            f"{what} needs {size:,} bytes, {folder} has {free:,} left: {size - free:,} too few.",
            hint=hint,
        )
