"""The models in a repo of GGUF files: one for each quantization, in one file or several parts; and which is wanted.

Knows what files are called, never what is in them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from localllm.errors import DownloadFailed, ModelNotFound
from localllm.library import filenames
from localllm.library.listing import Listing
from localllm.library.pulling.request import Request
from localllm.library.ranges import RemoteFile

USUAL = "Q4_K_M"
"""What is pulled when nobody says which."""


@dataclass(frozen=True)
class Variant:
    """One model of a repo. `quantization` is what its name says, in capitals, or empty."""

    files: tuple[RemoteFile, ...]
    quantization: str

    @property
    def name(self) -> str:
        """The file that a program is given: the first."""
        return self.files[0].name

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def quantization_of(name: str) -> str:
    """The quantization that a file's name tells, or the name of its folder, in capitals; or empty."""
    path = PurePosixPath(name)
    return filenames.quantization(path.name) or filenames.quantization(f"{path.parent.name}.gguf")


def variants(listing: Listing) -> list[Variant]:
    """The models of a repo, the smallest first.

    Raises:
        DownloadFailed: a part of one is missing there, or a name leads out of the folder.
    """
    names = [name for name in listing.files if filenames.is_model(name) and filenames.part_of(name)[0] == 1]
    found = [_variant(listing, name) for name in names]
    return sorted(found, key=lambda variant: (variant.size, variant.name))


def choose(listing: Listing, request: Request) -> Variant:
    """The model that is asked for.

    Raises:
        ModelNotFound: there is none, or several; says which there are, and how large they are.
        DownloadFailed: as `variants`.
    """
    if request.file:
        return _by_file(listing, request)
    found = variants(listing)
    if request.quantization:
        return _by_quantization(listing, found, request.quantization.upper())
    usual = [variant for variant in found if variant.quantization == USUAL]
    if len(usual) == 1:
        return usual[0]
    if len(found) == 1:
        return found[0]
    many = f"several in {USUAL}" if usual else f"none in {USUAL}"
    raise ModelNotFound(f"{listing.repo} holds {len(found)} models, {many}.", hint=_choices(listing, usual or found))


def _by_file(listing: Listing, request: Request) -> Variant:
    if request.file in listing.files:
        return _variant(listing, request.file)
    near = difflib.get_close_matches(request.file, listing.files, n=3, cutoff=0.6)
    hint = f"The nearest there: {', '.join(near)}." if near else _choices(listing, variants(listing))
    raise ModelNotFound(f"{listing.title} has no file {request.file}.", hint=hint)


def _by_quantization(listing: Listing, found: Sequence[Variant], wanted: str) -> Variant:
    named = [variant for variant in found if variant.quantization == wanted]
    named = named or [variant for variant in found if variant.quantization == f"UD-{wanted}"]
    if len(named) == 1:
        return named[0]
    what = f"{len(named)} models in {wanted}" if named else f"no model in {wanted}"
    raise ModelNotFound(f"{listing.repo} has {what}.", hint=_choices(listing, named or found))


def _choices(listing: Listing, found: Iterable[Variant]) -> str:
    found = list(found)
    if not found:
        return "It has no GGUF files."
    named = zip(names(listing, found), found, strict=True)
    return "Choose one:\n" + "\n".join(f"  {name}  {variant.size / 1e6:,.0f} MB" for name, variant in named)


def names(listing: Listing, found: Sequence[Variant]) -> list[str]:
    """What to pull each of these models of a repo by: its quantization where no other has it, else its file."""
    labels = [variant.quantization for variant in found]
    return [
        f"{listing.repo}:{label}" if label and labels.count(label) == 1 else f"{listing.repo}/{variant.name}"
        for label, variant in zip(labels, found, strict=True)
    ]


def _variant(listing: Listing, first: str) -> Variant:
    names = filenames.names_of_parts(first)
    missing = [name for name in names if name not in listing.files]
    if missing:
        raise DownloadFailed(
            f"{listing.title} lacks {missing[0]}, one of {len(names)} parts.", hint="Is it the right repo?"
        )
    for name in names:
        refuse_way_out(listing.title, name)
    return Variant(tuple(listing.files[name] for name in names), quantization_of(first))


def refuse_way_out(title: str, name: str) -> None:
    """Say that a file's name would lead out of the folder that it belongs in.

    Raises:
        DownloadFailed: it would.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise DownloadFailed(f"{title}: the file name {name!r} leads out of its folder; it is not fetched.")
