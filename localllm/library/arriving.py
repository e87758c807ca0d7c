"""The files of models that are imported arrive in the models folder: linked, copied or moved.

Linked is the default, for it takes no room: on the same disk a hard link, a second name that stays when the first is
removed; on another disk a symbolic link, which does not. What is there is never written over, and what fails leaves
nothing behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from localllm import settings
from localllm.errors import BadOutput
from localllm.library.importing import Import
from localllm.library.room import refuse_without_room

_CHUNK = 4 << 20


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
