"""What a person names as a source: a folder, a file, or a repo of the hub."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.convert.files import Files


def opened(source: str, *, keep_download: bool = False) -> Path | Files:
    """Where the checkpoint is. People hear when a folder hides a repo, and when the network will be waited for."""
    from localllm import library

    if library.is_repo_name(source):
        what = "a folder" if Path(source).is_dir() else "a file"
        hidden = f"note: {source} is {what} here; the hub is not asked for a repo of that name"
        print(hidden if Path(source).exists() else f"looking up {source} on the hub", file=sys.stderr)
    return library.open_source(source, keep_download=keep_download, remark=note)


def note(text: str) -> None:
    """Tell people something on stderr."""
    print(f"note: {text}", file=sys.stderr)
