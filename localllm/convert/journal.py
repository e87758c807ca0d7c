"""What of a conversion is done, in a file beside it, so that one that was interrupted goes on where it was.

The first line says what is made of what; then comes a line for every slab that was written, with a checksum of its
bytes. A slab counts as done when its bytes have that checksum, so nothing need be forced to the disk for it. Knows
nothing of types and of what a slab means.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from localllm import __version__
from localllm.convert.header import Layout
from localllm.convert.proof.roundtrip import Look, Loss
from localllm.convert.slabs import SLAB, Slab
from localllm.convert.tensor import RowSource
from localllm.native import lib

_FORMAT = 1
_COLUMNS = 512
_NAMING = {"naming": True}

Identity = Mapping[str, Any]
"""What has to be the same for a conversion to go on: JSON."""

_REASONS = {
    "program": "another version of localllm or llama.cpp began it",
    "source": "the files of the source are others, or were changed",
    "layout": "the settings are others, or the configuration of the source is",
    "numbers": "the settings are others",
}


def identify(source: RowSource, layouts: Sequence[Layout], numbers: Mapping[str, Any]) -> Identity:
    """What a conversion is made of; `numbers` is what decides on its numbers beside that."""
    weights = sorted({tensor.file for tensor in source.stored.values()})
    return {
        "program": [_FORMAT, SLAB, __version__, lib.build()],
        "source": {name: source.files.version(name) for name in weights},
        "layout": [hashlib.sha256(layout.header).hexdigest() for layout in layouts],
        "numbers": dict(numbers),
    }


def checksum(data: memoryview) -> int:
    """A checksum of bytes that costs next to nothing: that of the sums of their columns, 512 numbers of 64 bits wide.

    It finds what a crash leaves, bytes that were never written; not whole rows that changed places.
    """
    whole = len(data) // (8 * _COLUMNS) * (8 * _COLUMNS)
    words: npt.NDArray[np.uint64] = np.frombuffer(data[:whole], dtype=np.uint64).reshape(-1, _COLUMNS)
    return zlib.crc32(data[whole:], zlib.crc32(np.add.reduce(words, axis=0).data))


@dataclass(frozen=True)
class Done:
    """A slab that was written: the checksum of its bytes, and what was seen of it where one looked."""

    checksum: int
    look: Look | None


class Journal:
    """The journal at `path` of a conversion with this identity. A context manager: within, `add` writes to it.

    `was_there` says whether there is one already; `reason` why what it tells of is not to go on, or None.
    """

    def __init__(self, path: Path, identity: Identity) -> None:
        self.path, self.identity = path, identity
        lines, self._length = _read(path)
        self.was_there = bool(lines)
        self.reason = _difference(lines[0] if lines else {}, identity)
        self._done: dict[tuple[int, int], Done] = {}
        if self.reason is None:
            try:
                self._done = dict(_done(line) for line in lines[1:] if "slab" in line)
            except (KeyError, TypeError, ValueError):
                self.reason = f"{path} is damaged"
        self.was_naming = self.reason is None and _NAMING in lines
        self._file: BinaryIO | None = None

    def forget(self) -> None:
        """Begin anew."""
        self._done.clear()
        self.reason = self.reason or "it was not asked for"

    def find(self, slab: Slab) -> Done | None:
        """What is known of a slab, if it was written."""
        return self._done.get((slab.file, slab.offset))

    def __enter__(self) -> Journal:
        self._file = self.path.open("ab", buffering=0)
        # The last line may have been cut.
        self._file.truncate(self._length if self.reason is None else 0)
        if self.reason is not None:
            self._write(self.identity)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, slab: Slab, done: Done) -> None:
        """A slab was written."""
        look = astuple(done.look) if done.look else None
        self._write({"slab": [slab.file, slab.offset], "checksum": done.checksum, "look": look})

    def naming(self) -> None:
        """Everything was written and checked; the files get their names now."""
        self._write(_NAMING)

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(line).encode() + b"\n")


def _done(line: Mapping[str, Any]) -> tuple[tuple[int, int], Done]:
    """What a line says; raises KeyError, TypeError or ValueError where it is not one that was written here."""
    (file, offset), look = line["slab"], line["look"]
    for number in (file, offset, line["checksum"], *((look[0] or ()) if look else ()), *(look[1:] if look else ())):
        if type(number) not in (int, float):
            raise TypeError(number)
    seen = Look(Loss(*look[0]) if look[0] else None, *look[1:]) if look else None
    return (file, offset), Done(line["checksum"], seen)


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that are whole, and their bytes; none where there is no journal, or what is no journal."""
    found, length = [], 0
    try:
        with path.open("rb") as file:
            for line in file:
                parsed = json.loads(line) if line.endswith(b"\n") else None
                if not isinstance(parsed, dict):
                    break
                found.append(parsed)
                length += len(line)
    except (OSError, ValueError, RecursionError):
        pass
    return found, length


def _difference(found: Identity, wanted: Identity) -> str | None:
    """Why what was begun is not the same conversion, or None."""
    return next((reason for part, reason in _REASONS.items() if found.get(part) != wanted[part]), None)
