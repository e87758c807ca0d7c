"""What goes away when a model is removed from this machine, and how much that frees: known before, done on demand.

What belongs to another program's store is left to that program; the cache of the hub is changed by the hub's library,
which knows what its revisions share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localllm.errors import BadModelFile, BadOutput, LocalLLMError, MissingPackage
from localllm.library import hub_cache
from localllm.library.in_use import users_of
from localllm.library.places import place_of
from localllm.library.shelf import placed
from localllm.library.stored import Stored, names_in


@dataclass(frozen=True)
class Removal:
    """A model that can be removed. `files` go away, which frees `frees` bytes; `remarks` say why it is not more."""

    name: str
    model: Stored
    files: tuple[Path, ...]
    frees: int
    remarks: tuple[str, ...]
    execute: Callable[[], None]
    """Remove it. Raises BadOutput when a file cannot be removed: says which are gone."""


def plan_removal(name: str, *, force: bool = False) -> Removal:
    """What removing the model `name` means; removes nothing. `force` also takes a file out of LM Studio's folder.

    Raises:
        ModelNotFound: as `shelf.find`.
        BadModelFile: the name is the path of a file that is no GGUF.
        LocalLLMError: it belongs to another program, which removes it itself, or a program has it open.
        MissingPackage: it is in the hub's cache, and the hub's library is not installed.
    """
    label, model = placed(name)
    model = _owned(model) if model.kind == "file" else model
    _refuse_foreign(label, model, force)
    users = users_of(part for part in model.parts if model.kind in ("hub", "llama.cpp") or not part.is_symlink())
    if users:
        raise LocalLLMError(
            f"{label} is in use: {', '.join(users)} has it open.",
            hint="End that program, or let it load another model, and try again.",
        )
    if hub_cache.is_in_snapshot(model):
        return _from_hub_cache(label, model)
    return _plain(label, model)


def _owned(model: Stored) -> Stored:
    """A file that no place lists, as of the place whose folder it is in, if that is another program's.

    Raises:
        BadModelFile: it is no GGUF.
    """
    if not all(map(_is_gguf, model.parts)):
        raise BadModelFile(f"{model.path} is not a GGUF file, and only models are removed.")
    place = place_of(model.path)
    return replace(model, kind=place.kind, folder=place.folder) if place and place.kind != "folder" else model


def _refuse_foreign(label: str, model: Stored, force: bool) -> None:
    if model.kind == "package":
        package = model.folder.name.replace("_", "-")
        raise LocalLLMError(f"{label} belongs to the package {package}.", hint=f"pip uninstall {package}")
    if model.kind == "ollama":
        command = f"ollama rm {model.name}" if model.name else "ollama rm NAME; `ollama list` shows the names"
        raise LocalLLMError(f"{label} belongs to Ollama, whose other models may share its files.", hint=command)
    if model.kind == "lmstudio" and not force:
        raise LocalLLMError(
            f"{label} belongs to LM Studio.",
            hint="Delete it there, under My Models; or, as it is a plain file that LM Studio keeps no count of, with "
            "--force.",
        )
    if model.kind == "hub" and not hub_cache.is_in_snapshot(model):
        raise LocalLLMError(
            f"{label} is inside the hub's cache, under no name.", hint="`localllm list` shows the models in it by name."
        )


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _plain(label: str, model: Stored) -> Removal:
    """Files in a folder, removed one by one, with what llama.cpp noted beside its own."""
    notes = [part.with_name(f"{part.name}.json") for part in model.parts if model.kind == "llama.cpp"]
    files = (*model.parts, *(note for note in notes if note.is_file()))
    remarks, frees = [], 0
    for path in files:
        state = path.lstat()
        if path.is_symlink():
            remarks.append(f"{path.name} is a link; {os.path.realpath(path)} stays")
        elif state.st_nlink > 1:
            remarks.append(f"{path.name} has another name on the disk, which stays: a hard link")
        else:
            frees += state.st_size
    return Removal(label, model, files, frees, tuple(remarks), lambda: _unlink(files))


def _unlink(files: Sequence[Path]) -> None:
    for index, path in enumerate(files):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            gone = f" Already gone: {', '.join(map(str, files[:index]))}." if index else ""
            raise BadOutput(f"{path} cannot be removed: {error.strerror}.{gone}") from error


def _from_hub_cache(label: str, model: Stored) -> Removal:
    """The file in every revision of its repo; or the repo as a whole, when it holds nothing else."""
    info = _scanned(model.folder)
    repo = _repo_in(info, model)
    folder = model.file.rpartition("/")[0]
    names = {f"{folder}/{part.name}" if folder else part.name for part in model.parts}
    every = [(file, revision) for revision in repo.revisions for file in revision.files]
    chosen = [
        file for file, revision in every if file.file_path.relative_to(revision.snapshot_path).as_posix() in names
    ]
    commits = {revision.commit_hash for revision in repo.revisions}
    others = {revision.commit_hash for other in info.repos if other is not repo for revision in other.revisions}
    blobs = {file.blob_path: file.size_on_disk for file in chosen}
    unfinished = set(names_in(repo.repo_path / "blobs")) - {blob.name for blob in blobs}
    # Revisions are deleted by their hash alone, which a copy of a repo shares; downloads that go on stay.
    if len(chosen) == len(every) and not commits & others and not unfinished:
        strategy, gone = info.delete_revisions(*commits), set(blobs)
    else:
        strategy = info.delete_files(*chosen)
        gone = set(strategy.blobs)
    elsewhere = sum(blobs[blob] for blob in gone & blobs.keys() if _has_other_names(blob, model.folder))
    shared = sum(blobs.values()) - strategy.expected_freed_size
    remarks = [f"{shared:,} bytes stay: other files in the cache share them"] if shared > 0 else []
    remarks += [f"{elsewhere:,} bytes stay: a file outside of this repo is the same one on disk"] if elsewhere else []
    files = tuple(sorted(file.file_path for file in chosen))
    frees = strategy.expected_freed_size - elsewhere
    return Removal(label, model, files, frees, tuple(remarks), lambda: _executed(strategy))


def _has_other_names(blob: Path, cache: Path) -> bool:
    """Whether the bytes of a blob stay when it goes: what another program had already was not stored twice."""
    target = blob.resolve()
    return not target.is_relative_to(cache.resolve()) or target.stat().st_nlink > 1


def _executed(strategy: Any) -> None:
    try:
        strategy.execute()
    except OSError as error:
        raise BadOutput(f"{error.filename} cannot be removed: {error.strerror}.") from error


def _scanned(cache: Path) -> Any:
    try:
        from huggingface_hub import scan_cache_dir
    except ImportError as error:
        raise MissingPackage(
            "Removing a model from the hub's cache needs the package huggingface_hub.",
            hint="pip install 'localllm[hub]'",
        ) from error
    info = scan_cache_dir(cache)
    if not hasattr(info, "delete_files"):
        raise MissingPackage(
            "Removing a model from the hub's cache needs huggingface_hub 1.32 or newer.",
            hint="pip install --upgrade 'localllm[hub]'",
        )
    return info


def _repo_in(info: Any, model: Stored) -> Any:
    for repo in info.repos:
        if repo.repo_type == "model" and repo.repo_id == model.repo:
            return repo
    raise LocalLLMError(
        f"The hub's library finds {model.repo} damaged in its cache {model.folder}.",
        hint="`hf cache verify` checks it, `hf cache prune` removes what is of no use.",
    )
