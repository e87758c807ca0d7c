"""From a name to a model on this machine: what the name stands for is looked up, and what is missing is fetched.

    found = look_up("org/name-GGUF:Q4_K_M")
    path = found.fetch(progress).path

Looking up asks for names and sizes, never for the content of a file.
"""

from __future__ import annotations

import functools

from localllm.errors import BadCheckpoint, BadModelFile, DownloadFailed, MissingPackage, ModelNotFound
from localllm.library import naming, shelf
from localllm.library.pulling.found import Found, Here, Progress, Pulled, Remark

try:
    from huggingface_hub import constants

    from localllm.library.listing import Listing, Unreachable, list_repo
    from localllm.library.pulling import hub_model, web_file
    from localllm.library.pulling.cache import cached
    from localllm.library.pulling.request import Address, Request, read_name
    from localllm.library.pulling.transfer import GO_ON
    from localllm.library.pulling.variants import USUAL, choose, variants
except ImportError as error:
    raise MissingPackage(
        "Models of the hub need the package huggingface_hub.", hint="pip install 'localllm[hub]'"
    ) from error

__all__ = ["Found", "Progress", "Pulled", "Remark", "look_up"]


def look_up(name: str, *, type: str | None = None, sha256: str | None = None, remark: Remark | None = None) -> Found:
    """What `name` stands for: `fetch` of it brings the model here.

    `name` is a name of the catalogue; `org/repo`, `org/repo:Q4_K_M` or `org/repo/file.gguf` of the hub, with
    `@revision` behind the repo or without; or the address of a GGUF file. Of a repo with a checkpoint and no GGUF
    files, and of any when `type` is given, the checkpoint is converted to that quantization type, by default Q4_K_M.
    `sha256` is the hash, in hexadecimal digits, that the file at an address must have.

    Raises:
        ModelNotFound: there is no such model; says the nearest, or the choices.
        DownloadFailed: the hub or server cannot be reached, refuses, or gives no access; or the cache is not enough
            when offline.
        BadCheckpoint: the repo holds no weights that can be converted, or `type` is given for what is no checkpoint.
        UnsupportedModel: there is no such `type`.
        BadModelFile: `sha256` is given for what is no address of one file.
    """
    remark = remark or (lambda _: None)
    if "/" not in name:
        _refuse_type(name, type)
        _refuse_hash(name, sha256)
        found = _in_catalog(name, remark)
        return found if isinstance(found, Here) else _in_repo(found, type, remark)
    asked = read_name(name)
    if isinstance(asked, Address):
        _refuse_type(name, type)
        return web_file.look_up(asked, sha256 and sha256.lower(), remark)
    _refuse_hash(name, sha256)
    return _in_repo(asked, type, remark)


def _refuse_type(name: str, type: str | None) -> None:
    """Say that what is a GGUF already is not converted."""
    if type:
        raise BadCheckpoint(
            f"{name} is a GGUF, not a checkpoint: a type does not apply.",
            hint=f"Pull it, and quantize it anew: localllm convert FILE --type {type}",
        )


def _refuse_hash(name: str, sha256: str | None) -> None:
    """Say that a hash is compared for files at addresses only."""
    if sha256:
        raise BadModelFile(
            f"{name} is no address of a file: a hash does not apply.",
            hint="Leave --sha256 out: the hash of a file on the hub is the one that the hub tells.",
        )


def _in_catalog(name: str, remark: Remark) -> Here | Request:
    """A model that is here already under this name, or where the catalogue says it is."""
    family = naming.family(name)
    entry, quantization = naming.in_catalogue(name) or ((family[0], "") if len(family) == 1 else (None, ""))
    try:
        stored = shelf.find(name)
        wanted = naming.entry_of(stored)[1]
        fits = wanted is None or wanted.size in (0, stored.size)
        if entry is None or (stored.whole and fits):
            return Here(stored.parts)
        if wanted is not None and not fits:
            remark(f"{stored.path} has {stored.size:,} bytes, not {wanted.size:,} as the catalogue says: it is left")
    except ModelNotFound:
        if entry is None:
            raise
    file = entry.quantized(quantization) if quantization else entry.files[0]
    # A quantization that the catalogue does not tell may be in the repo all the same.
    return Request(entry.repo, file=file.file) if file else Request(entry.repo, quantization=quantization)


def _in_repo(request: Request, type: str | None, remark: Remark) -> Found:
    if constants.HF_HUB_OFFLINE:
        return _in_cache(request, type, remark, "HF_HUB_OFFLINE forbids to ask the hub")
    try:
        listing = list_repo(request.repo, request.revision, remark)
    except Unreachable as error:
        return _in_cache(request, type, remark, f"the hub ({constants.ENDPOINT}) {error}")
    if type is None and (variants(listing) or request.file):
        return hub_model.look_up(listing, choose(listing, request), remark)
    return _checkpoint(listing, request, type, remark)


def _checkpoint(listing: Listing, request: Request, type: str | None, remark: Remark) -> Found:
    # Converting needs much that downloading does not; nobody waits for its import in vain.
    from localllm.library import hub
    from localllm.library.pulling import checkpoint
    from localllm.library.weights_listing import refuse_without_weights

    refuse_without_weights(listing)
    if request.quantization or request.file:
        raise _no_gguf(listing, request)
    opened = functools.partial(hub.HubFiles, listing, keep=False, remark=remark, go_on=GO_ON)
    return checkpoint.look_up(hub.origin_of(listing), opened, type, remark)


def _no_gguf(listing: Listing, request: Request) -> ModelNotFound:
    """A checkpoint has neither the quantization nor the file that was asked for: offer to make it."""
    type = request.quantization.upper() or USUAL
    return ModelNotFound(
        f"{listing.title} holds a checkpoint, and that has no {request.quantization or request.file}.",
        hint=f"Convert it while it is downloaded: localllm pull {listing.repo} --type {type}\n"
        f"Or look for GGUF files of it: localllm search {listing.repo.rpartition('/')[2]}",
    )


def _in_cache(request: Request, type: str | None, remark: Remark, why: str) -> Found:
    """What the cache has, when the hub is not to be asked or does not answer: `why`."""
    found = cached(request.repo, request.revision)
    if found is not None and type is None and (variants(found[0]) or request.file):
        listing, folder = found
        try:
            variant = choose(listing, request)
        except ModelNotFound as error:
            raise DownloadFailed(
                f"{request.repo} is not in the hub's cache on this machine as it is asked for, and {why}.",
                hint=error.hint,
            ) from error
        remark(f"{why}: there may be a newer one")
        return Here(tuple(folder / file.name for file in variant.files))
    from localllm.library import hub
    from localllm.library.pulling import checkpoint

    files = hub.from_cache(request.repo, request.revision, why)
    return checkpoint.look_up(files.origin, lambda: files, type, remark)
