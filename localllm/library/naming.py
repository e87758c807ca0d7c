"""The names of a model on this machine: that of the catalogue, of its repo, of another program, of its file."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from localllm.library import filenames
from localllm.library.catalog import Entry, File, load_catalog
from localllm.library.places import stored_models
from localllm.library.stored import Stored

_HUBS = ("hf.co/", "huggingface.co/")


def names_of(model: Stored) -> list[str]:
    """Every name that stands for the model, the best to show first. One may stand for others, too."""
    names: list[str] = []
    entry, file = entry_of(model)
    if entry is not None and file is not None:
        names += [entry.name] if file is entry.files[0] else []
        names.append(f"{entry.name}:{file.quantization}")
    if model.name:
        shortened = model.name.removesuffix(":latest")
        names += [model.name, shortened]
        names += [shortened[len(hub) :] for hub in _HUBS if shortened.startswith(hub)]
    if model.repo:
        names += [f"{model.repo}:{quantization}" for quantization in _quantizations(model)]
        names += [f"{model.repo}/{model.file}", model.repo]
    if model.file:
        names += [filenames.without_part(model.stem), model.stem, PurePosixPath(model.file).name]
    return list(dict.fromkeys(names))


def entry_of(model: Stored) -> tuple[Entry, File] | tuple[None, None]:
    """The model of the catalogue, and the file of it, that this is.

    By its SHA-256 where that is known; else by the name of its file, if no repo is known, or the right one, or the size
    is the same.
    """
    by_file, by_hash = _catalogue_index(load_catalog())
    if model.sha256 in by_hash:
        return by_hash[model.sha256]
    for entry, file in by_file.get(PurePosixPath(model.file).name, ()):
        if model.repo in ("", entry.repo) or model.size == file.size:
            return entry, file
    return None, None


def in_catalogue(name: str) -> tuple[Entry, str] | None:
    """The model of the catalogue with this name, and the quantization that the name ends with, or an empty one."""
    key = name.casefold()
    for entry in load_catalog():
        if key == entry.name or key.startswith(f"{entry.name}:"):
            return entry, name[len(entry.name) + 1 :].upper()
    return None


def is_gguf_repo(name: str) -> bool:
    """Whether it looks like a repo of GGUF files, here or not: `org/name-GGUF`, or with a quantization behind it."""
    repo, colon, quantization = name.partition(":")
    told = quantization != "" and filenames.quantization(f"-{quantization}.gguf") == quantization.upper()
    return repo.count("/") == 1 and " " not in name and (told or (not colon and repo.upper().endswith("-GGUF")))


def family(name: str) -> list[Entry]:
    """The models of the catalogue of this family: `qwen3` for `qwen3:0.6b` and its other sizes."""
    return [entry for entry in load_catalog() if name.casefold() == entry.name.partition(":")[0]]


def labelled_models() -> list[tuple[str, Stored]]:
    """Every model on this machine, place by place, with the name to show."""
    models = list(stored_models())
    return list(zip(labels(models), models, strict=True))


def known_names() -> list[str]:
    """Every name that is offered: of the catalogue, then one for each model on this machine."""
    return list(dict.fromkeys([*(entry.name for entry in load_catalog()), *(label for label, _ in labelled_models())]))


def labels(models: Sequence[Stored]) -> list[str]:
    """For each of the models, which are all in the order of their places, the shortest name that stands for it alone.

    Its path where each of its names stands for another.
    """
    found: list[str] = []
    taken: set[str] = set()
    place: list[Stored] = []
    for index, model in enumerate(models):
        place.append(model)
        following = models[index + 1] if index + 1 < len(models) else None
        if following is None or (following.kind, following.folder) != (model.kind, model.folder):
            found += _labels_in_place(place, taken)
            place = []
    return found


def _labels_in_place(place: Sequence[Stored], taken: set[str]) -> list[str]:
    """The labels of the models in one place. `taken` are the names in the places before it; these are added."""
    names = [names_of(model) for model in place]
    count = Counter(name.casefold() for own in names for name in own)
    chosen = []
    for model, own in zip(place, names, strict=True):
        free = (name for name in own if count[name.casefold()] == 1 and name.casefold() not in taken)
        # A repo alone would mean less as soon as another of its models comes.
        chosen.append(next((name for name in free if name != model.repo), str(model.path)))
    taken.update(count)
    return chosen


def _quantizations(model: Stored) -> list[str]:
    """What a person may call its quantization: `UD-Q4_K_XL` is asked for as `Q4_K_XL`, too."""
    names = (model.quantization, model.quantization.removeprefix("UD-"))
    return [name for name in dict.fromkeys(names) if name]


@functools.lru_cache(maxsize=4)
def _catalogue_index(
    entries: tuple[Entry, ...],
) -> tuple[dict[str, list[tuple[Entry, File]]], dict[str, tuple[Entry, File]]]:
    by_file: dict[str, list[tuple[Entry, File]]] = {}
    by_hash: dict[str, tuple[Entry, File]] = {}
    for entry in entries:
        for file in entry.files:
            by_file.setdefault(PurePosixPath(file.file).name, []).append((entry, file))
            if file.sha256:
                by_hash[file.sha256] = entry, file
    return by_file, by_hash
