"""What is to be converted, by name: a folder or a file on this machine, or a repo of the hub.

Imports nothing of the hub until a name asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localllm import paths
from localllm.errors import ModelNotFound
from localllm.library import absent, shelf

if TYPE_CHECKING:
    from localllm.convert.files import Files

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@\S+)?")


def is_repo_name(name: str) -> bool:
    """Whether it could be a repo of the hub: `org/name` or `org/name@revision`."""
    return _REPO.fullmatch(name) is not None and not name.endswith(".gguf")


def open_source(
    source: str | Path | Files, *, keep_download: bool = False, remark: Callable[[str], None] | None = None
) -> Path | Files:
    """Where the checkpoint is that `source` names: a path, a repo of the hub, or the name of a GGUF on this machine.

    `keep_download` puts what is downloaded in the hub's cache; `remark` hears when the hub is waited for.

    Raises:
        ModelNotFound: it is the name of a GGUF in the catalogue that is not here, or of several, or like other names.
        ModelNotFound, BadCheckpoint, DownloadFailed, MissingPackage: see `localllm.library.hub.open_source`.
    """
    if not isinstance(source, str):
        return source
    path = paths.expanded(source)
    if paths.exists(path):
        return path
    if not is_repo_name(source):
        return _here(source, path)
    from localllm.library import hub

    return hub.open_source(source, keep_download=keep_download, remark=remark)


def _here(name: str, path: Path) -> Path:
    """The GGUF that has this name; else the path, where nothing is."""
    try:
        return shelf.resolve(name)
    except ModelNotFound:
        known = absent.no_source(name)
        if known is not None:
            raise known from None
        if shelf.knows(name):
            raise
        return path
