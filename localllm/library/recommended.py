"""How the makers of a model recommend to sample from it, for files that do not say it: by the name of the file.

Most GGUF files on the hub say nothing of it, and a small model at a temperature that is too high talks nonsense.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

from localllm.library.catalog import Entry, File, load_catalog
from localllm.runtime.options import Options

_SEPARATORS = ".-_"


def as_recommended(path: Path, options: Options) -> Options:
    """The options for a load of the model at `path`, with what the catalogue recommends for it, in any quantization."""
    entry = _entry_of(path)
    if entry is None or not entry.sampling or options.recommended:
        return options
    return replace(options, recommended=tuple(entry.sampling.items()))


def _entry_of(path: Path) -> Entry | None:
    name = path.stem.casefold()
    for entry in load_catalog():
        for file in entry.files:
            base = _without_quantization(file)
            if name.startswith(base) and name[len(base) : len(base) + 1] in (*_SEPARATORS, ""):
                return entry
    return None


def _without_quantization(file: File) -> str:
    """What the names of all quantizations of the model begin with, in lower case."""
    name = PurePosixPath(file.file).stem.casefold()
    return name.partition(file.quantization.casefold())[0].rstrip(_SEPARATORS)
