"""The hub's cache on this machine, in the layout of its own library, so that other programs find the files too.

`models--org--name` holds `blobs/<hash>`, `snapshots/<commit>/<file>` as links to them, and `refs/<branch>` with the
commit that it was. A blob is made here only when its hash is proven. Knows nothing of what is in files.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from localllm.errors import DownloadFailed
from localllm.library.listing import Listing
from localllm.library.pulling.partial import writing
from localllm.library.pulling.variants import refuse_way_out
from localllm.library.ranges import RemoteFile

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True)
class Place:
    """Where a file of a repo belongs: its content, the link under its name, and the lock of who downloads it."""

    blob: Path
    link: Path
    lock: Path

    def is_filled(self) -> bool:
        """Whether the file is here under its name."""
        return self.link.is_file()

    def make_link(self) -> None:
        """Give the content its name. A file system without links gets the file itself.

        Raises:
            BadOutput: the cache cannot be written.
        """
        with writing(self.link):
            self._make_link()

    def _make_link(self) -> None:
        self.link.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            fresh.symlink_to(os.path.relpath(self.blob, self.link.parent))
        except OSError:
            fresh = self.blob
        fresh.replace(self.link)


def place_of(listing: Listing, file: RemoteFile) -> Place:
    """Where a file of a repo belongs.

    Raises:
        DownloadFailed: what the hub says would lead out of the cache.
    """
    folder = _folder(listing.repo)
    refuse_way_out(listing.title, file.name)
    refuse_way_out(listing.title, listing.revision)
    if not _HASH.fullmatch(file.version) or not _COMMIT.fullmatch(listing.commit):
        raise DownloadFailed(f"{listing.title}: the hub tells no hash of {file.name}; it is not fetched.")
    link = folder / "snapshots" / listing.commit / file.name
    return Place(folder / "blobs" / file.version, link, folder.parent / ".locks" / folder.name / f"{file.version}.lock")


def note_revision(listing: Listing) -> None:
    """Note which commit the revision is that was asked for.

    Raises:
        BadOutput: the cache cannot be written.
    """
    if listing.revision == listing.commit:
        return
    ref = _folder(listing.repo) / "refs" / listing.revision
    with writing(ref):
        if ref.is_file() and ref.read_text() == listing.commit:
            return
        ref.parent.mkdir(parents=True, exist_ok=True)
        fresh = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
        fresh.write_text(listing.commit)
        fresh.replace(ref)


def cached(repo: str, revision: str) -> tuple[Listing, Path] | None:
    """What the cache has of a repo: the files of the commit that the revision was when it was last asked for, and the
    folder that they are in.

    Raises:
        DownloadFailed: the cache cannot be read.
    """
    try:
        return _cached(repo, revision)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise DownloadFailed(
            f"The hub's cache of {repo} cannot be read: {why}.", hint=f"Look at the folder {_folder(repo)}."
        ) from error


def _cached(repo: str, revision: str) -> tuple[Listing, Path] | None:
    folder = _folder(repo)
    ref = folder / "refs" / revision
    commit = revision if _COMMIT.fullmatch(revision) else ref.read_text().strip() if ref.is_file() else ""
    snapshot = folder / "snapshots" / commit
    if not commit or not snapshot.is_dir():
        return None
    files = {}
    for path in sorted(snapshot.rglob("*")):
        name = path.relative_to(snapshot).as_posix()
        if path.is_file():
            files[name] = RemoteFile(name, "", path.stat().st_size, path.resolve().name)
    return Listing(repo, revision, commit, files), snapshot


def _folder(repo: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / "--".join(["models", *repo.split("/")])
