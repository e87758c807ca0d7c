"""Every place on this machine that holds GGUF files, and what it holds: our folders, and the stores of other programs.

Looks at names of files and at the small files in which a store says what it holds, never into a model; writes nothing.
What another program is still writing is not there yet: parts of downloads have other names until they are whole.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from localllm import paths, settings, small_files
from localllm.library import hub_cache, ollama
from localllm.library.catalog import load_catalog
from localllm.library.stored import Stored, models_in, stored_file


@dataclass(frozen=True)
class Place:
    """A folder that holds models. `kind` is one of `KINDS`; `read` finds what is in it, by its own layout."""

    kind: str
    folder: Path
    read: Callable[[Path], Iterator[Stored]]

    def models(self) -> Iterator[Stored]:
        """What it holds now; nothing where there is no such folder, or it may not be read."""
        return self.read(self.folder)


KINDS: dict[str, str] = {
    "folder": "models folder",
    "package": "package",
    "hub": "hub cache",
    "llama.cpp": "llama.cpp",
    "lmstudio": "LM Studio",
    "ollama": "Ollama",
}
"""What each kind of place is called."""


def places() -> Iterator[Place]:
    """Every place, in the order in which a name is looked for: what is ours first. Each is looked up when it is due."""
    for folder in settings.models_dirs():
        yield Place("folder", folder, _read_folder)
    for folder in _packages():
        yield Place("package", folder, _read_package)
    yield Place("hub", hub_cache.folder(), hub_cache.read)
    for folder in hub_cache.llama_cpp_folders():
        yield Place("llama.cpp", folder, hub_cache.read_llama_cpp)
    for folder in lmstudio_folders():
        yield Place("lmstudio", folder, _read_lmstudio)
    for folder in ollama.folders():
        yield Place("ollama", folder, ollama.read)


def stored_models() -> Iterator[Stored]:
    """Every model on this machine, place by place; one in a folder that is part of two places comes once."""
    seen: set[Path] = set()
    for place in places():
        root = place.folder.resolve()
        for model in place.models():
            path = root / model.path.relative_to(place.folder)
            if model.kind == "ollama" or path not in seen:
                seen.add(path)
                yield model


def place_of(path: Path) -> Place | None:
    """The place whose folder a file is in, links in the folders above it followed; the file itself may be one."""
    here = path.parent.resolve()
    return next((place for place in places() if here.is_relative_to(place.folder.resolve())), None)


def files_with_sha256(sha256: str) -> Iterator[Path]:
    """The files, parts of split models too, that a store keeps under this SHA-256, in hexadecimal digits.

    The store computed it when the file came; whoever needs certainty computes it again.
    """
    yield from hub_cache.blobs(sha256)
    yield from ollama.blobs(sha256)


def files_named(name: str, size: int) -> Iterator[Path]:
    """The files of models with this file name and size in bytes: they may be the file that is looked for, or not."""
    wanted = PurePosixPath(name).name
    for model in stored_models():
        for path in model.parts:
            if path.name == wanted and _size(path) == size:
                yield path


def lmstudio_folders() -> list[Path]:
    """Where LM Studio keeps models, as `publisher/repo/file.gguf`: what its settings say, else its usual folders."""
    home = paths.expanded("~")
    pointed = small_files.read_line(home / ".lmstudio-home-pointer")
    homes = [Path(pointed)] if Path(pointed).is_absolute() else [home / ".lmstudio", home / ".cache" / "lm-studio"]
    found = []
    for folder in homes:
        told = small_files.read_json(folder / "settings.json").get("downloadsFolder")
        moved = Path(told) if isinstance(told, str) and told else None
        found.append(moved if moved is not None and moved.is_absolute() else folder / "models")
    return list(dict.fromkeys(found))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _packages() -> list[Path]:
    """The folders of the packages in the catalogue that are installed; finding one does not import it."""
    names = dict.fromkeys(entry.package for entry in load_catalog() if entry.package)
    specs = (importlib.util.find_spec(name.replace("-", "_")) for name in names)
    return [Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or []]


def _read_folder(folder: Path) -> Iterator[Stored]:
    return (stored_file("folder", folder, path) for path in models_in(folder))


def _read_package(folder: Path) -> Iterator[Stored]:
    return (stored_file("package", folder, path) for path in models_in(folder))


def _read_lmstudio(folder: Path) -> Iterator[Stored]:
    for path in models_in(folder):
        parts = path.relative_to(folder).parts
        repo = f"{parts[0]}/{parts[1]}" if len(parts) > 2 else ""
        yield stored_file("lmstudio", folder, path, repo=repo, file="/".join(parts[2:] if repo else parts))
