"""The files that a conversion reads, so that it writes over none of them. Knows names, not what is in the files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from localllm.convert.files import Files, LocalFiles
from localllm.convert.gguf_source import is_gguf
from localllm.convert.outfiles import journal_of, part_of
from localllm.errors import BadOutput

Inputs = Mapping[Path, str]
"""Files on this machine, and what each of them is, in words."""


def inputs_of(source: Path | Files, imatrix: Path | None = None) -> Inputs:
    """What is read to convert a model: its files, or those of the GGUF, and the importance matrix."""
    matrix = {imatrix: "the importance matrix"} if imatrix is not None else {}
    return dict.fromkeys(_files(source), "a file of the source itself") | matrix


def inputs_of_adapter(adapter: Path, base: Path | Files) -> Inputs:
    """What is read to convert an adapter."""
    mine = dict.fromkeys(_files(adapter), "a file of the adapter itself")
    return dict.fromkeys(_files(base), "a file of the base of the adapter") | mine


def refuse_inputs(outfiles: Iterable[Path], inputs: Inputs) -> None:
    """Refuse to write what would replace one of the inputs, under its own name or while it is unfinished.

    Raises:
        BadOutput: it would.
    """
    for outfile in outfiles:
        for place in (outfile, part_of(outfile), journal_of(outfile)):
            found = next((what for path, what in inputs.items() if _same(place, path)), None)
            if found is not None:
                raise BadOutput(f"{place} is {found}.", hint="Write elsewhere with --outfile.")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False  # one of them is not there


def _files(place: Path | Files) -> list[Path]:
    if not isinstance(place, Path):
        return place.paths()
    if place.is_dir():
        # A GGUF that lies among the files of a checkpoint is no part of it.
        return [path for path in LocalFiles(place).paths() if not is_gguf(path)]
    return [path for path in place.parent.glob("*") if _same_model(path, place)]


def _same_model(path: Path, source: Path) -> bool:
    """Whether two files in a folder are the same or parts of one model."""
    numbered = r"-\d{5}-of-(\d{5}\.gguf)$"
    return re.sub(numbered, r"-\1", path.name) == re.sub(numbered, r"-\1", source.name)
