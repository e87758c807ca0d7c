"""Models from elsewhere on this machine get a name in the models folder: linked, copied or moved.

Linked is the default, for it takes no room: on the same disk a hard link, a second name that stays when the first is
removed; on another disk a symbolic link, which does not. Everything is looked at before anything is written, what is
there is never written over, and what fails leaves nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from localllm import paths, settings
from localllm.errors import BadModelFile, BadOutput
from localllm.gguf_file import read_parts
from localllm.library import absent, filenames
from localllm.library.places import KINDS, place_of
from localllm.library.room import refuse_without_room
from localllm.library.shelf import find
from localllm.library.stored import Stored, models_in, stored_file

_CHUNK = 4 << 20
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


def link(jobs: Sequence[Import]) -> dict[Path, str]:
    """Make hard links to the files of the jobs, symbolic ones where that cannot be. Says what each target became.

    Raises:
        BadOutput: one cannot be made; none is then.
    """
    return _made(jobs, _linked)


def copy(jobs: Sequence[Import], progress: Callable[[int, int], None] | None = None) -> dict[Path, str]:
    """Copy the files of the jobs. `progress` hears the bytes done and in all.

    Raises:
        BadOutput: the disk has not enough room, a copy cannot be written, or a file changes meanwhile; no copy stays.
    """
    return _made(jobs, _Copier(jobs, progress).copy)


def move(jobs: Sequence[Import], progress: Callable[[int, int], None] | None = None) -> dict[Path, str]:
    """Move the files of the jobs. No file goes away before all have arrived, nor one that may be the only name of what
    is there already. Says what each target became.

    Raises:
        BadOutput: as `copy`; or a file cannot be removed from where it was, and then it has two names.
    """
    device = _made_folder().stat().st_dev
    far = [job for job in jobs if any(source.stat().st_dev != device for source in job.sources)]
    copier = _Copier(far, progress)

    def arrive(source: Path, target: Path) -> str:
        try:
            return _hard_link(source, target)
        except FileExistsError:
            raise
        except OSError:  # from another disk, or on a file system without hard links
            return copier.copy(source, target)

    result = _made(jobs, arrive)
    for job in jobs:
        for source, target in zip(job.sources, job.targets, strict=True):
            if result[target] == "there already" and not _has_another_name(source, target):
                result[target] = f"there already, {source} stays: it may be the only copy"
            else:
                _remove_source(source, target)
                result[target] = "moved"
    return result


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


def _made(jobs: Sequence[Import], make: Callable[[Path, Path], str]) -> dict[Path, str]:
    """Make every target that is not there already; all or none."""
    _made_folder()
    result: dict[Path, str] = {}
    pairs = [pair for job in jobs for pair in zip(job.sources, job.targets, strict=True)]
    try:
        for source, target in pairs:
            there = target.exists() and target.samefile(source)
            result[target] = "there already" if there else make(source, target)
    except BaseException as error:
        _undo([target for target, how in result.items() if how != "there already"])
        if isinstance(error, OSError):
            raise BadOutput(f"{target} cannot be made: {error.strerror}.", hint="Nothing was imported.") from error
        raise
    return result


def _made_folder() -> Path:
    folder = settings.models_dirs()[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadOutput(f"The models folder {folder} cannot be made: {error.strerror}.") from error
    return folder


def _undo(targets: Sequence[Path]) -> None:
    for target in targets:
        with suppress(OSError):
            target.unlink()


def _hard_link(source: Path, target: Path) -> str:
    os.link(source.resolve(), target)
    return "hard link"


def _linked(source: Path, target: Path) -> str:
    try:
        return _hard_link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another disk, another person's file, or a file system without hard links
        target.symlink_to(source.resolve())
        return "symbolic link"


class _Copier:
    """Copies files of these jobs, if there is room for them all, and tells how far it is."""

    def __init__(self, jobs: Sequence[Import], progress: Callable[[int, int], None] | None) -> None:
        pairs = (pair for job in jobs for pair in zip(job.sources, job.targets, strict=True))
        self._total = sum(source.stat().st_size for source, target in pairs if not target.exists())
        self._done = 0
        self._progress = progress
        refuse_without_room("The copy", settings.models_dirs()[0], self._total, "Without --copy a model is linked.")

    def copy(self, source: Path, target: Path) -> str:
        """Copy one of them. Raises BadOutput when it changes meanwhile."""
        with closing(_copied(source, target)) as pieces:
            for size in pieces:
                self._done += size
                if self._progress is not None:
                    self._progress(self._done, self._total)
        return "copy"


def _copied(source: Path, target: Path) -> Generator[int, None, None]:
    """Copy a file beside its name and give it that, unless another took it. Yields the sizes of the pieces."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    before = source.stat()
    try:
        with source.open("rb") as reading, part.open("xb") as writing:
            while chunk := reading.read(_CHUNK):
                writing.write(chunk)
                yield len(chunk)
            writing.flush()
            os.fsync(writing.fileno())
        after = source.stat()
        if (before.st_size, before.st_mtime_ns) != (part.stat().st_size, after.st_mtime_ns):
            raise BadOutput(f"{source} changed while it was copied.", hint="Nothing was imported: try again.")
        _name_it(part, target)
    finally:
        part.unlink(missing_ok=True)


def _name_it(part: Path, target: Path) -> None:
    """Rename, but never over another file."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise
        part.replace(target)


def _has_another_name(source: Path, target: Path) -> bool:
    """Whether a target that is the same file as `source` stays when `source` goes.

    Different paths may be one name, by a bind mount or on a disk that does not tell `M` from `m`; and a symbolic link
    would lead nowhere.
    """
    if _place(source) == _place(target):
        return True  # nothing goes
    one_name = source.parent.samefile(target.parent) and source.name.casefold() == target.name.casefold()
    return source.stat().st_nlink > 1 and not target.is_symlink() and not one_name


def _place(path: Path) -> Path:
    """The path without links in its folders."""
    return path.parent.resolve() / path.name


def _remove_source(source: Path, target: Path) -> None:
    try:
        if _place(source) != _place(target):
            source.unlink()
    except OSError as error:
        raise BadOutput(
            f"{source} cannot be removed: {error.strerror}.", hint=f"It is in the models folder now, too: {target}"
        ) from error
