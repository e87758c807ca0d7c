"""The models in a repo that a search found: what each is pulled by, its size, and about what a load of it takes.

Asks for names and sizes, and for the first bytes of one file, which tell how large a KV cache is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants

from localllm.errors import DownloadFailed, LocalLLMError
from localllm.gguf_file import read_start
from localllm.library.facts import needed_by
from localllm.library.listing import Listing, Unreachable, list_repo
from localllm.library.pulling import Remark
from localllm.library.pulling.cache import place_of
from localllm.library.pulling.partial import bytes_of
from localllm.library.pulling.variants import USUAL, Variant, names, variants
from localllm.library.ranges import Fetcher, RemoteFile
from localllm.library.search import Hit
from localllm.library.weights_listing import wanted

_START = 1 << 16
"""Bytes at the beginning of a GGUF file that hold the sizes of its layers; its vocabulary follows, which is long."""

_BITS = 5
"""About so many bits a weight takes in `USUAL`."""


@dataclass(frozen=True)
class Offer:
    """A model of a repo. `label` tells it from the others there, `name` is what to pull it by.

    `bytes` are those of its files and `arrived` those that an interrupted download has left here; `needed` is about
    what a load takes, 0 where that is not known. `path` is where it is, if it is on this machine. A model that has yet
    to be converted has about so many bytes, and is made of `source` bytes of a checkpoint.
    """

    label: str
    name: str
    bytes: int
    needed: int = 0
    arrived: int = 0
    path: Path | None = None
    source: int = 0


def offers_of(hit: Hit, remark: Remark) -> list[Offer]:
    """The models of a repo, the smallest first. Waits for the network.

    Raises:
        ModelNotFound, DownloadFailed: the hub has no such repo any more, does not answer, or gives no access.
    """
    try:
        listing = list_repo(hit.repo, "main", remark)
    except Unreachable as error:
        raise DownloadFailed(f"The hub ({constants.ENDPOINT}) {error}.", hint="Check the network.") from error
    if hit.kind == "checkpoint":
        source = sum(file.size for file in wanted(listing))
        return [Offer(USUAL, hit.repo, hit.parameters * _BITS // 8, source=source)]
    found = variants(listing)
    beside = _beside_weights(listing, found[0].files[0]) if found else 0
    return [_offer(listing, variant, name, beside) for variant, name in zip(found, names(listing, found), strict=True)]


def _offer(listing: Listing, variant: Variant, name: str, beside: int) -> Offer:
    places = [place_of(listing, file) for file in variant.files]
    is_here = all(place.is_filled() for place in places)
    return Offer(
        variant.quantization if name.endswith(f":{variant.quantization}") else variant.name,
        name,
        variant.size,
        needed=variant.size + beside if beside else 0,
        arrived=sum(bytes_of(place.blob) for place in places),
        path=places[0].link if is_here else None,
    )


def _beside_weights(listing: Listing, file: RemoteFile) -> int:
    """About the bytes of KV cache and compute, the same for each quantization; 0 where the hub does not give them."""
    start = bytearray(min(_START, file.size))
    fetcher = Fetcher(listing.title, lambda _: None)
    try:
        fetcher.fetch(file, 0, memoryview(start))
        return needed_by(read_start(file.name, bytes(start)))
    except LocalLLMError:  # a gated repo, say: what its files take is told all the same
        return 0
