"""A model as a place on this machine holds it, and how it is found in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localllm.library import filenames


@dataclass(frozen=True)
class Stored:
    """A model on this machine, in one file or in parts.

    `kind` and `folder` say in which place it is (`places.KINDS`), `path` is its first file, `parts` are all that are
    here and `count` is how many there should be. `repo` is the `publisher/name` that it came from, where the place
    knows it, and `file` its path there. `name` is what the place calls it, where that is not the name of a file
    (`llama3.2:1b` in Ollama). `sha256` is that of the first file as the place keeps it, or empty. `remark` says what
    of it is not used here.
    """

    kind: str
    folder: Path
    path: Path
    parts: tuple[Path, ...]
    count: int = 1
    repo: str = ""
    file: str = ""
    name: str = ""
    sha256: str = ""
    remark: str = ""

    @property
    def size(self) -> int:
        """Bytes of the files that are here."""
        return sum(_size(path) for path in self.parts)

    @property
    def stem(self) -> str:
        """The name of the file without `.gguf`; of a split model that of its first part."""
        return Path(self.file).stem

    @property
    def quantization(self) -> str:
        """What the name of the file, or of the folder that it is in, says of its quantization; or empty."""
        own = filenames.quantization(self.file)
        folder = self.file.rpartition("/")[0]
        return own or (filenames.quantization(f"{folder}.gguf") if folder else "")

    @property
    def whole(self) -> bool:
        """Whether all its parts are here."""
        return len(self.parts) == self.count


def stored_file(kind: str, folder: Path, path: Path, *, repo: str = "", file: str = "", sha256: str = "") -> Stored:
    """The model whose first file is `path`, with the parts that lie beside it. `file` is its name unless given."""
    count = filenames.part_of(path.name)[1]
    names = filenames.parts_among(path.name, names_in(path.parent) if count > 1 else [])
    parts = tuple(part for part in map(path.with_name, names) if part == path or is_there(part))
    return Stored(kind, folder, path, parts, count, repo, file or path.name, "", sha256)


def models_in(folder: Path) -> Iterator[Path]:
    """The first files of the models in a folder and those below it, sorted. What is hidden is not looked at."""
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        identity = _identity(Path(root))
        if identity is None or identity in seen:  # it went away, or a link leads back to it
            folders.clear()
            continue
        seen.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if filenames.is_model(name) and filenames.part_of(name)[0] == 1 and is_there(path):
                yield path


def is_there(path: Path) -> bool:
    """Whether there is a file that may be looked at; what may not be looked at is as good as not there."""
    try:
        return path.is_file()
    except OSError:
        return False


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted; none where there is no such folder, or it may not be read."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it went away meanwhile
        return 0
