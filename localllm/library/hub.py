"""A model repo of the Hugging Face hub as the files of a checkpoint: streamed, downloaded, or already on this machine.

The hub's own library knows the endpoint, the token, the cache and the errors; the reading of ranges is ours. Knows
names and sizes of files, not what is in them.
"""

from __future__ import annotations

import difflib
import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm.convert.files import Files, LocalFiles, Range
from localllm.convert.origin import Origin
from localllm.convert.weights import KINDS
from localllm.errors import BadCheckpoint, DownloadFailed, LocalLLMError, MissingPackage, ModelNotFound

try:
    import huggingface_hub as hub
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    from localllm.library import refusals
    from localllm.library.keeping import Keeper
    from localllm.library.ranges import LONG, Fetcher, RemoteFile, asked_wait, seconds_to_wait
    from localllm.library.readahead import PAGE, ReadAhead
except ImportError as error:
    raise MissingPackage(
        "Models of the hub need the package huggingface_hub.", hint="pip install 'localllm[hub]'"
    ) from error

_ASKED = 3
_SMALL = 32 << 20
_BESIDE = re.compile(r"(README\.md|[^/]+\.(json|jinja|txt|model)|[^/]+/(config\.json|[^/]+\.jinja))")
"""What a conversion may read beside the weights."""


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
        return _cached(repo, revision, "HF_HUB_OFFLINE forbids to ask the hub")
    try:
        listing = _listing(repo, revision, remark)
    except _Unreachable as error:
        return _cached(repo, revision, f"the hub ({constants.ENDPOINT}) {error}")
    _refuse_without_weights(listing)
    return HubFiles(listing, keep=keep_download, remark=remark)


@dataclass(frozen=True)
class Listing:
    """The files of a repo at one commit, by name. `revision` is what was asked for."""

    repo: str
    revision: str
    commit: str
    files: dict[str, RemoteFile]

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.repo}@{self.commit[:8]}"

    @property
    def origin(self) -> Origin:
        """Where the files come from."""
        return Origin(self.repo.rpartition("/")[2], self.repo, self.commit)

    def local(self, folder: Path, remark: str = "") -> LocalFiles:
        """Those of the files that are in a folder of the cache."""
        return LocalFiles(folder, self.origin, remark)

    def wanted(self) -> list[RemoteFile]:
        """What a conversion may read: the weights, of the first kind that is there, and the small files beside them."""
        names = list(self.files)
        kind = next((kind for kind in KINDS if kind.is_in(names)), None)
        weights = [name for name in names if kind is not None and kind.holds(name)]
        return [self.files[name] for name in names if name in weights or _BESIDE.fullmatch(name)]


class HubFiles(Files):
    """The files of a repo: those in the hub's cache are read there, the others from the hub, with read-ahead.

    With `keep` the others are downloaded to the cache as soon as ranges are expected.
    """

    def __init__(self, listing: Listing, *, keep: bool, remark: Callable[[str], None]) -> None:
        self.listing = listing
        self._fetcher = Fetcher(listing.title, remark)
        self._local = _in_cache(listing)
        self._cached = {name for name in listing.files if self._local and (self._local.folder / name).is_file()}
        self._lock = threading.Lock()
        self._ahead = ReadAhead({file.name: file.size for file in listing.files.values()}, self._fetch)
        wanted = [file for file in listing.wanted() if file.name not in self._cached]
        self._keeper = Keeper(listing.repo, listing.revision, listing.commit, wanted) if keep and wanted else None
        self._missing = sum(file.size for file in wanted)
        # Headers of shards, and the small files: each would wait for the network by itself otherwise.
        self._ahead.expect([(file.name, 0, file.size if _is_small(file) else min(PAGE, file.size)) for file in wanted])

    @property
    def title(self) -> str:
        """`org/name@commit`."""
        return self.listing.title

    @property
    def origin(self) -> Origin:
        """The repo and the commit."""
        return self.listing.origin

    def received(self) -> int:
        """Bytes that came from the network so far."""
        return self._fetcher.received + (self._keeper.received if self._keeper else 0)

    def sha256(self, name: str) -> str | None:
        """As the hub tells it."""
        return self.listing.files[name].sha256

    def names(self) -> list[str]:
        """Every file at the top, and in the folders there."""
        return sorted(name for name in self.listing.files if name.count("/") <= 1)

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
            self._local = self._local or self.listing.local(path.parents[name.count("/")])
            self._cached.add(name)
            return self._local

    def _fetch(self, name: str, start: int, target: memoryview) -> None:
        self._fetcher.fetch(self.listing.files[name], start, target)


def _is_small(file: RemoteFile) -> bool:
    return file.size <= _SMALL and _BESIDE.fullmatch(file.name) is not None


class _Unreachable(Exception):
    """The hub does not answer; its text says what it does."""


def _listing(repo: str, revision: str, remark: Callable[[str], None]) -> Listing:
    """What the hub says of the repo. A busy hub is asked again.

    Raises:
        _Unreachable: it does not answer.
    """
    for failures in itertools.count(1):
        try:
            timeout = constants.HF_HUB_ETAG_TIMEOUT
            info = hub.HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=timeout)
            files = [_remote(repo, info.sha, sibling) for sibling in info.siblings]
            return Listing(repo, revision, info.sha, {file.name: file for file in files})
        except hub.errors.HFValidationError as error:
            raise ModelNotFound(f"{repo!r} is no name of a repo: org/name.") from error
        except (HTTPError, OSError) as error:
            refused = refusals.explain(error, repo, revision)
            if refused is not None:
                raise _with_nearest(refused, error, repo) from error
            if not isinstance(error, HfHubHTTPError):
                raise _Unreachable("cannot be reached") from error
            reason = f"answers {error.response.status_code}"
            if failures == _ASKED:
                raise _Unreachable(reason) from error
            seconds = seconds_to_wait(asked_wait(error.response.headers), failures)
            if seconds >= LONG:
                remark(f"the hub {reason}; waiting {seconds:.0f} s")
            time.sleep(seconds)
    raise AssertionError("unreachable")


def _remote(repo: str, commit: str, sibling: Any) -> RemoteFile:
    url = hub.hf_hub_url(repo, sibling.rfilename, revision=commit, endpoint=constants.ENDPOINT)
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    return RemoteFile(sibling.rfilename, url, sibling.size or 0, sha256 or sibling.blob_id or "", sha256)


def _with_nearest(refused: LocalLLMError, error: Exception, repo: str) -> LocalLLMError:
    """The error that says that there is no such repo or revision, with those that there are."""
    try:
        if isinstance(error, RevisionNotFoundError):
            refs = hub.HfApi().list_repo_refs(repo)
            return ModelNotFound(
                refused.message, hint=f"It has: {', '.join(ref.name for ref in refs.branches + refs.tags)}."
            )
        if not isinstance(error, RepositoryNotFoundError) or isinstance(error, GatedRepoError):
            return refused
        known = [model.id for model in hub.HfApi().list_models(search=repo.rpartition("/")[2], limit=20)]
    except (HTTPError, OSError):
        return refused
    near = difflib.get_close_matches(repo, [name for name in known if name != repo], n=3, cutoff=0.6)
    hint = f"The nearest there: {', '.join(near)}. {refused.hint}" if near else refused.hint
    return ModelNotFound(refused.message, hint=hint)


def _refuse_without_weights(listing: Listing) -> None:
    names = list(listing.files)
    if any(kind.is_in(names) for kind in KINDS):
        return
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        raise BadCheckpoint(
            f"{listing.title} holds GGUF files and no checkpoint: there is nothing to convert.",
            hint=f"Run one as it is: hf download {listing.repo} {ggufs[0]}",
        )
    wanted = " and no ".join(kind.single for kind in KINDS)
    others = ", ".join(sorted({Path(name).suffix for name in names if listing.files[name].sha256} - {""}))
    raise BadCheckpoint(
        f"{listing.title} holds no weights: no {wanted}.",
        hint=f"Its large files are of other kinds: {others}." if others else "Is it the right repo?",
    )


def _snapshot(repo: str, revision: str) -> Path | None:
    """The folder of a revision in the hub's cache, whatever it holds."""
    names = ("config.json", *(name for kind in KINDS for name in (kind.single, kind.index)))
    found = (hub.try_to_load_from_cache(repo, name, revision=revision) for name in names)
    return next((Path(path).parent for path in found if isinstance(path, str)), None)


def _in_cache(listing: Listing) -> LocalFiles | None:
    folder = _snapshot(listing.repo, listing.commit)
    return listing.local(folder) if folder is not None else None


def _cached(repo: str, revision: str, why: str) -> Files:
    """What the cache has, when the hub is not to be asked or does not answer: `why`.

    Raises:
        DownloadFailed: it has no weights of the repo.
    """
    folder = _snapshot(repo, revision)
    if folder is not None and any(kind.is_in([path.name for path in folder.iterdir()]) for kind in KINDS):
        remark = f"{why}: there may be a newer one"
        return Listing(repo, revision, folder.name, {}).local(folder, remark)
    part = " with its weights" if folder is not None else ""
    raise DownloadFailed(
        f"{repo} is not in the hub's cache on this machine{part}, and {why}.",
        hint="Unset HF_HUB_OFFLINE, or give the folder of a checkpoint."
        if constants.HF_HUB_OFFLINE
        else "Check the network and HF_ENDPOINT, or give the folder of a checkpoint.",
    )
