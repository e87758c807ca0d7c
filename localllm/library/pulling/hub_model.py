"""A model in a repo of GGUF files: into the hub's cache, where it stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localllm.library.listing import Listing
from localllm.library.pulling import transfer
from localllm.library.pulling.cache import Place, note_revision, place_of
from localllm.library.pulling.copies import find_copy, put_copy
from localllm.library.pulling.found import Here, Progress, Pulled, Remark
from localllm.library.pulling.partial import discard
from localllm.library.pulling.variants import Variant
from localllm.library.ranges import Fetcher, RemoteFile


@dataclass(frozen=True)
class HubModel:
    """The files of one model at one commit of a repo."""

    listing: Listing
    variant: Variant
    remark: Remark
    converts: bool = False

    @property
    def about(self) -> str:
        """Its name, size and repo."""
        parts = f" in {len(self.variant.files)} files" if len(self.variant.files) > 1 else ""
        return f"{self.listing.title}: {self.variant.name}, {self.variant.size / 1e6:,.1f} MB{parts}"

    def fetch(self, progress: Progress) -> Pulled:
        """Download what the cache lacks, each file by several connections.

        Raises:
            DownloadFailed: the hub refuses or fails, or a file is not what it says; what arrived of the others is kept.
            BadModelFile: a file is no GGUF; it is removed.
            BadOutput: the disk has not enough room, or fails.
        """
        places = [place_of(self.listing, file) for file in self.variant.files]
        fetcher = Fetcher(self.listing.title, self.remark, go_on=transfer.GO_ON, direct=True)
        missing = [
            (file, place) for file, place in zip(self.variant.files, places, strict=True) if not place.is_filled()
        ]
        self._use_copies(missing, progress)
        jobs = [transfer.Job(file, place.blob, place.lock) for file, place in missing]
        hint = "Make room, choose a smaller quantization, or move the cache with HF_HOME."
        hashes = transfer.fetch(jobs, fetcher, progress, self.remark, hint)
        for _, place in missing:
            place.make_link()
        told = {place.link: hashes[place.blob] for place in places if place.blob in hashes}
        if missing:
            note_revision(self.listing)
        paths = tuple(place.link for place in places)
        return Pulled(paths[0], paths, fetcher.received, self.listing.title, told)

    def _use_copies(self, missing: Sequence[tuple[RemoteFile, Place]], progress: Progress) -> None:
        """Take what another store on this machine has, a model of Ollama's or LM Studio's, say."""
        total, done = sum(file.size for file, _ in missing), 0
        for file, place in missing:
            if not place.blob.is_file():
                copy = find_copy(file, transfer.after(done, total, progress))
                if copy is not None:
                    self.remark(f"{file.name} is on this machine already, as {copy}: it is used and not downloaded")
                    with transfer.held(place.lock, file.name, self.remark, transfer.after(done, total, progress)):
                        if not place.blob.is_file():
                            put_copy(copy, place.blob)
                            discard(place.blob)
            done += file.size


def look_up(listing: Listing, variant: Variant, remark: Remark) -> HubModel | Here:
    """A model of a repo; one that the cache has as a whole is here already.

    Raises:
        DownloadFailed: what the hub says would lead out of the cache.
    """
    places = [place_of(listing, file) for file in variant.files]
    if not all(place.is_filled() for place in places):
        return HubModel(listing, variant, remark)
    note_revision(listing)
    return Here(tuple(place.link for place in places))
