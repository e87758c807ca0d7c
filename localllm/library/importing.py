"""Which models from elsewhere on this machine get which names in the models folder.

Everything is looked at before anything is written; `arriving` makes the files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localllm import paths, settings
from localllm.errors import BadModelFile, BadOutput
from localllm.gguf_file import read_parts
from localllm.library import absent, filenames
from localllm.library.places import KINDS, place_of
from localllm.library.shelf import find
from localllm.library.stored import Stored, models_in, stored_file

_LONGEST = 200
_NO_MODELS = ("adapter", "imatrix", "mmproj")


@dataclass(frozen=True)
class Import:
    """A model and the name it gets. `sources` and `targets` are its files, one or the parts; `size` is their bytes."""

    name: str
    sources: tuple[Path, ...]
    targets: tuple[Path, ...]
    size: int


def plan_imports(names: Sequence[str], *, name: str = "", move: bool = False) -> list[Import]:
    """What is to be imported: files, all models in folders, or models that are here under a name already. `name` is
    the new one, for a single model. Writes nothing.

    Raises:
        ModelNotFound: nothing is there; says the nearest.
        BadModelFile: a file is no GGUF, is cut short, or is no model that runs by itself.
        BadOutput: the name leads out of the models folder, or another file has it; or a file cannot be moved.
    """
    models = [model for given in names for model in _models(given)]
    if name and len(models) > 1:
        raise BadOutput(f"One name cannot stand for {len(models)} models.", hint="Import them without --name.")
    jobs = [_import(model, _checked_name(name) if name else "") for model in models]
    taken: dict[Path, Path] = {}
    for model, job in zip(models, jobs, strict=True):
        _check_model(job.sources)
        if move:
            _refuse_to_move(model)
        for source, target in zip(job.sources, job.targets, strict=True):
            if taken.setdefault(target, source) != source:
                raise BadOutput(f"{taken[target]} and {source} would both be {target.name}.", hint="Import one by one.")
            _refuse_other(source, target)
    return list({job.targets: job for job in jobs}.values())


def _models(given: str) -> list[Stored]:
    path = paths.expanded(given)
    if not (paths.exists(path) and path.is_dir()):
        return [find(given)]
    inside = [stored_file("file", path, file) for file in models_in(path)]
    if not inside:
        raise absent.explain(given)
    return inside


def _import(model: Stored, name: str) -> Import:
    """The import of a model under a name; without one it has its own, and stays where it is if a folder is ours."""
    place = place_of(model.path)
    folder, own = settings.models_dirs()[0], _own_name(model)
    if not name and place is not None and place.kind == "folder":
        return Import(own, model.parts, model.parts, model.size)
    ends = [""]
    if model.count > 1:
        ends = [f"-{filenames.part_of(part.name)[0]:05}-of-{model.count:05}" for part in model.parts]
    return Import(name or own, model.parts, tuple(folder / f"{name or own}{end}.gguf" for end in ends), model.size)


def _own_name(model: Stored) -> str:
    """The name of the file, or what another program calls it: `llama3.2:1b` becomes `llama3.2-1b`."""
    if model.name:
        return model.name.removesuffix(":latest").replace("/", "-").replace(":", "-")
    return filenames.without_part(Path(model.file).stem if model.file.lower().endswith(".gguf") else model.path.name)


def _checked_name(name: str) -> str:
    stem = name[:-5] if name.lower().endswith(".gguf") else name
    if any(mark in stem for mark in "/\\") or stem in ("", ".", ".."):
        raise BadOutput(f"{name!r} would lead out of the models folder.", hint="Give a name without slashes.")
    if not stem.isprintable() or len(stem.encode()) > _LONGEST:
        raise BadOutput(f"{name!r} is no name for a file.", hint=f"At most {_LONGEST} bytes, and printable.")
    if not filenames.is_model(f"{stem}.gguf") or filenames.without_part(stem) != stem:
        raise BadOutput(
            f"{stem!r} would not be taken for a model.",
            hint="A name must not begin with a dot, end like that of a part, or have mmproj or imatrix in it.",
        )
    return stem


def _check_model(sources: Sequence[Path]) -> None:
    """Refuse what would not run."""
    headers = read_parts(sources[0])
    first = headers[0]
    kind = str(first.get("general.type", ""))
    if kind in _NO_MODELS or first.architecture == "clip":
        what = kind or "mmproj"
        raise BadModelFile(f"{sources[0]} is not a model by itself: its header says that it is of the type {what}.")
    if not first.architecture or not any(header.tensors for header in headers):
        raise BadModelFile(f"{sources[0]} holds no model: it has no tensors, or no architecture.")


def _refuse_to_move(model: Stored) -> None:
    """Leave the stores of other programs whole."""
    for part in model.parts:
        place = place_of(part)
        if place is not None and place.kind != "folder":
            raise BadOutput(
                f"{part} belongs to {KINDS[place.kind]}, which would miss it.", hint="Import it without --move."
            )
        if part.is_symlink():
            raise BadOutput(f"{part} is a link.", hint=f"Move what it leads to: {part.resolve()}")


def _refuse_other(source: Path, target: Path) -> None:
    if not os.path.lexists(target):
        return
    if not target.exists() or not target.samefile(source):
        raise BadOutput(f"{target} exists, and is another file.", hint="Give the model another name: --name NAME")
