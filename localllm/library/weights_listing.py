"""What of a repo's listing a conversion reads: its weights, and the small files beside them."""

from __future__ import annotations

import re
from pathlib import Path

from localllm.convert.weights import KINDS
from localllm.errors import BadCheckpoint
from localllm.library.listing import Listing
from localllm.library.ranges import RemoteFile

_SMALL = 32 << 20
_BESIDE = re.compile(r"(README\.md|[^/]+\.(json|jinja|txt|model)|[^/]+/(config\.json|[^/]+\.jinja))")
"""What a conversion may read beside the weights."""


def wanted(listing: Listing) -> list[RemoteFile]:
    """What a conversion may read: the weights, of the first kind that is there, and the small files beside them."""
    names = list(listing.files)
    kind = next((kind for kind in KINDS if kind.is_in(names)), None)
    weights = [name for name in names if kind is not None and kind.holds(name)]
    return [listing.files[name] for name in names if name in weights or _BESIDE.fullmatch(name)]


def is_small(file: RemoteFile) -> bool:
    """Whether a conversion will read it as a whole before any weights."""
    return file.size <= _SMALL and _BESIDE.fullmatch(file.name) is not None


def refuse_without_weights(listing: Listing) -> None:
    """Say what a repo without a checkpoint holds.

    Raises:
        BadCheckpoint: it is one.
    """
    names = list(listing.files)
    if any(kind.is_in(names) for kind in KINDS):
        return
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        raise BadCheckpoint(
            f"{listing.title} holds GGUF files and no checkpoint: there is nothing to convert.",
            hint=f"Run one as it is: localllm pull {listing.repo}/{ggufs[0]}",
        )
    wanted = " and no ".join(kind.single for kind in KINDS)
    others = ", ".join(sorted({Path(name).suffix for name in names if listing.files[name].sha256} - {""}))
    raise BadCheckpoint(
        f"{listing.title} holds no weights: no {wanted}.",
        hint=f"Its large files are of other kinds: {others}." if others else "Is it the right repo?",
    )
