"""A model repo of the Hugging Face hub as the files of a checkpoint: streamed, downloaded, or already on this machine.

The hub's own library knows the endpoint, the token, the cache and the errors; the reading of ranges is ours. Knows
where files are, not what is in them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from localllm.convert.files import Files, LocalFiles, Range
from localllm.convert.origin import Origin
from localllm.convert.weights import KINDS
from localllm.errors import DownloadFailed, MissingPackage

try:
    import huggingface_hub as hub
    from huggingface_hub import constants

    from localllm.library import ranges
    from localllm.library.keeping import Keeper
    from localllm.library.listing import Listing, Unreachable, list_repo
    from localllm.library.ranges import Fetcher
    from localllm.library.readahead import PAGE, ReadAhead
    from localllm.library.weights_listing import is_small, refuse_without_weights, wanted
except ImportError as error:
    raise MissingPackage(
        "Models of the hub need the package huggingface_hub.", hint="pip install 'localllm[hub]'"
    ) from error


def open_source(name: str, *, keep_download: bool = False, remark: Callable[[str], None] | None = None) -> Files:
    """The files of the repo `org/name` or `org/name@revision`: a branch, a tag or a commit.

    What the hub's cache on this machine has is read there. The rest is fetched when it is read, and kept nowhere; with
    `keep_download` it goes to the cache first, from the moment that weights are read. `remark` hears when the hub is
    waited for.

    Raises:
        ModelNotFound: no such repo or revision; says the nearest.
        BadCheckpoint: it holds no weights that can be converted.
        DownloadFailed: the hub cannot be reached or gives no access, or the cache is not enough when offline.
        MissingPackage: the extra `hub` is not installed.
    """
    repo, _, revision = name.partition("@")
    revision = revision or constants.DEFAULT_REVISION
    remark = remark or (lambda _: None)
    if constants.HF_HUB_OFFLINE:
        return from_cache(repo, revision, "HF_HUB_OFFLINE forbids to ask the hub")
    try:
        listing = list_repo(repo, revision, remark)
    except Unreachable as error:
        return from_cache(repo, revision, f"the hub ({constants.ENDPOINT}) {error}")
    refuse_without_weights(listing)
    return HubFiles(listing, keep=keep_download, remark=remark)


class HubFiles(Files):
    """The files of a repo: those in the hub's cache are read there, the others from the hub, with read-ahead.

    With `keep` the others are downloaded to the cache as soon as ranges are expected. `go_on` says what to do when the
    network fails too often.
    """

    def __init__(
        self, listing: Listing, *, keep: bool, remark: Callable[[str], None], go_on: str = ranges.GO_ON
    ) -> None:
        self.listing = listing
        self._fetcher = Fetcher(listing.title, remark, go_on=go_on)
        self._local = _in_cache(listing)
        self._cached = {name for name in listing.files if self._local and (self._local.folder / name).is_file()}
        self._lock = threading.Lock()
        self._ahead = ReadAhead({file.name: file.size for file in listing.files.values()}, self._fetch)
        missing = [file for file in wanted(listing) if file.name not in self._cached]
        self._keeper = Keeper(listing.repo, listing.revision, listing.commit, missing) if keep and missing else None
        self._missing = sum(file.size for file in missing)
        # Headers of shards, and the small files: each would wait for the network by itself otherwise.
        self._ahead.expect([(file.name, 0, file.size if is_small(file) else min(PAGE, file.size)) for file in missing])

    @property
    def title(self) -> str:
        """`org/name@commit`."""
        return self.listing.title

    @property
    def origin(self) -> Origin:
        """The repo and the commit."""
        return origin_of(self.listing)

    def received(self) -> int:
        """Bytes that came from the network so far."""
        return self._fetcher.received + (self._keeper.received if self._keeper else 0)

    def sha256(self, name: str) -> str | None:
        """As the hub tells it."""
        return self.listing.files[name].sha256

    def names(self) -> list[str]:
        """Every file at the top, and in the folders there."""
        return sorted(name for name in self.listing.files if name.count("/") <= 1)

    def paths(self) -> list[Path]:
        """Those that the hub's cache has."""
        return self._local.paths() if self._local is not None else []

    def size(self, name: str) -> int:
        """Bytes of a file."""
        return self.listing.files[name].size

    def version(self, name: str) -> str:
        """Its hash in the repo."""
        return self.listing.files[name].version

    def read_into(self, name: str, offset: int, target: memoryview) -> int:
        """Fill `target` from `offset` on; waits for the network.

        Raises:
            DownloadFailed: the hub cannot be reached, or gives no access.
            Cancelled: `stop` was called.
        """
        near = self._near(name)
        if near is not None:
            return near.read_into(name, offset, target)
        return self._ahead.read_into(name, offset, target)

    def expect(self, ranges: Sequence[Range]) -> None:
        """Read these ahead.

        Raises:
            BadOutput: they are to be kept, and the disk has not enough room.
        """
        if self._keeper is not None:
            self._keeper.start()
            return
        self._ahead.expect([part for part in ranges if part[0] not in self._cached])

    def stop(self) -> None:
        """End what waits for the network."""
        self._ahead.stop()
        self._fetcher.stop()
        if self._keeper is not None:
            self._keeper.stop()

    def close(self) -> None:
        """Stop, and close what is open."""
        self.stop()
        self._ahead.join(0.5)
        if self._keeper is not None:
            self._keeper.join(0.5)
        if self._local is not None:
            self._local.close()

    def remarks(self) -> list[str]:
        """Whether it is read from the network or from the cache."""
        if not self._missing:
            return self._local.remarks() if self._local is not None else []
        how = "to its cache on this machine" if self._keeper else "while they are converted, and not kept"
        return [f"{self._missing / 1e6:,.1f} MB come from the hub {how}"]

    def _near(self, name: str) -> LocalFiles | None:
        """The files on this machine, if this one is among them, or will be as soon as it is downloaded."""
        if name in self._cached:
            return self._local
        if self._keeper is None or not self._keeper.keeps(name):
            return None
        path = self._keeper.wait(name)
        with self._lock:
            self._local = self._local or _local(self.listing, path.parents[name.count("/")])
            self._cached.add(name)
            return self._local

    def _fetch(self, name: str, start: int, target: memoryview) -> None:
        self._fetcher.fetch(self.listing.files[name], start, target)


def origin_of(listing: Listing) -> Origin:
    """Where the files come from."""
    return Origin(listing.repo.rpartition("/")[2], listing.repo, listing.commit)


def _local(listing: Listing, folder: Path, remark: str = "") -> LocalFiles:
    """Those of the files that are in a folder of the cache."""
    return LocalFiles(folder, origin_of(listing), remark)


def _snapshot(repo: str, revision: str) -> Path | None:
    """The folder of a revision in the hub's cache, whatever it holds."""
    names = ("config.json", *(name for kind in KINDS for name in (kind.single, kind.index)))
    found = (hub.try_to_load_from_cache(repo, name, revision=revision) for name in names)
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def _in_cache(listing: Listing) -> LocalFiles | None:
    folder = _snapshot(listing.repo, listing.commit)
    return _local(listing, folder) if folder is not None else None


def from_cache(repo: str, revision: str, why: str) -> Files:
    """The checkpoint that the cache has, when the hub is not to be asked or does not answer: `why`.

    Raises:
        DownloadFailed: it has no weights of the repo.
    """
    folder = _snapshot(repo, revision)
    if folder is not None and any(kind.is_in([path.name for path in folder.iterdir()]) for kind in KINDS):
        remark = f"{why}: there may be a newer one"
        return _local(Listing(repo, revision, folder.name, {}), folder, remark)
    part = " with its weights" if folder is not None else ""
    raise DownloadFailed(
        f"{repo} is not in the hub's cache on this machine{part}, and {why}.",
        hint="Unset HF_HUB_OFFLINE. What is on this machine needs no hub."
        if constants.HF_HUB_OFFLINE
        else "Check the network and HF_ENDPOINT. What is on this machine needs no hub.",
    )
