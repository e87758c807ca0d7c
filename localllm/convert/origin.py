"""Where a folder of files comes from, as far as the downloads of the hub's own library tell.

That library leaves two kinds of records, and for files in large-file storage both name the SHA-256: its cache keeps a
file as `blobs/<sha256>` with a link from `snapshots/<revision>/`, and a download into a folder of one's own leaves
`.cache/huggingface/download/<file>.metadata` with the revision, the SHA-256 and the time. Knows no network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localllm import paths

_SHA256 = re.compile(r"[0-9a-f]{64}")
_REVISION = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint comes from. `name` is what files made of it are called; the hub's repository (`org/name`) and
    commit are empty where they are not known."""

    name: str
    repo: str = ""
    commit: str = ""

    @property
    def url(self) -> str:
        """The page of the repository, or empty."""
        return f"https://huggingface.co/{self.repo}" if self.repo else ""


def of_folder(folder: Path) -> Origin:
    """The origin of the files in `folder`."""
    place = folder.resolve()
    if place.parent.name == "snapshots" and _REVISION.fullmatch(place.name):
        kind, _, repository = place.parent.parent.name.partition("--")
        if kind == "models":
            return Origin(repository.rpartition("--")[2], repository.replace("--", "/"), place.name)
    revisions = {record[0] for path in sorted(place.iterdir()) if (record := _record(path)) is not None}
    return Origin(place.name, commit=revisions.pop() if len(revisions) == 1 else "")


def find_here(origin: Origin, near: Sequence[Path]) -> Path | None:
    """The folder of a checkpoint with this origin: in or beside the folders `near`, or in the hub's cache, or None."""
    named = Path(origin.name).name == origin.name and origin.name
    folders = [folder / origin.name for place in near for folder in (place, place.parent)] if named else []
    if origin.repo and origin.commit:
        cache = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
        repository = f"models--{origin.repo.replace('/', '--')}"
        folders.append(paths.expanded(cache) / repository / "snapshots" / origin.commit)
    return next((folder for folder in folders if (folder / "config.json").is_file()), None)


def recorded_sha256(path: Path) -> str | None:
    """The SHA-256 of a file as its download recorded it, or None."""
    if path.is_symlink() and path.resolve().parent.name == "blobs":
        name = path.resolve().name
        return name if _SHA256.fullmatch(name) else None
    record = _record(path.resolve())
    return record[1] if record and _SHA256.fullmatch(record[1]) else None


def _record(path: Path) -> tuple[str, str] | None:
    """Revision and checksum of a file that was downloaded into a folder and not changed since."""
    try:
        lines = (path.parent / ".cache/huggingface/download" / f"{path.name}.metadata").read_text("utf-8").split()
        # As the hub's library judges it: a file that is younger than its record was changed.
        if len(lines) == 3 and _REVISION.fullmatch(lines[0]) and path.stat().st_mtime <= float(lines[2]) + 1:
            return lines[0], lines[1]
    except (OSError, ValueError):
        pass
    return None
