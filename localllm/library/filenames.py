"""What the name of a GGUF file says: its quantization, and which part of a split model it is. Opens nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

# As texts, which `re` compiles when they are first used, and keeps: that takes some milliseconds.
_PART = r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})"
_QUANTIZATION = r"(?:^|[-._])((?:UD-)?(?:(?:I|T)?Q\d+(?:_[A-Z0-9]+)*|B?F16|F32|FP16|FP32|MXFP4(?:_MOE)?|NVFP4))$"
_COMPANIONS = r"(^|[-._])(mmproj|imatrix)([-._]|$)"


def quantization(name: str) -> str:
    """The quantization in a file's name, in capitals: `Q4_K_M`, `UD-Q4_K_XL`, `BF16`; empty where there is none."""
    found = re.search(_QUANTIZATION, without_part(PurePath(name).stem), re.IGNORECASE)
    return found[1].upper() if found else ""


def without_part(stem: str) -> str:
    """The stem of a file's name without `-00001-of-00003`."""
    part = _part(stem)
    return part["stem"] if part else stem


def part_of(name: str) -> tuple[int, int]:
    """Which part of how many a file is: `(1, 3)`; `(1, 1)` for a model in one file."""
    part = _part(PurePath(name).stem)
    return (int(part["number"]), int(part["count"])) if part else (1, 1)


def names_of_parts(name: str) -> list[str]:
    """The names of all parts of a model that is split, from the name of any; else its own name."""
    count = part_of(name)[1]
    ending = PurePath(name).suffix
    stem = without_part(name.removesuffix(ending))
    return [f"{stem}-{number:05}-of-{count:05}{ending}" for number in range(1, count + 1)] if count > 1 else [name]


def parts_among(name: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that are parts of the model of which `name` is one, in order; `name` alone if it is whole."""
    wanted = _part(PurePath(name).stem)
    if wanted is None:
        return [name]
    found = {other: _part(PurePath(other).stem) for other in names if other.lower().endswith(".gguf")}
    same = [other for other, part in found.items() if part and _model(part) == _model(wanted)]
    return sorted(same)


def _part(stem: str) -> re.Match[str] | None:
    return re.fullmatch(_PART, stem, re.IGNORECASE) if "-of-" in stem.casefold() else None


def _model(part: re.Match[str]) -> tuple[str, str]:
    return part["stem"], part["count"]


def is_model(name: str) -> bool:
    """Whether a file of this name may be a model: not a projector for images, not an importance matrix, not hidden."""
    path = PurePath(name)
    hidden = path.name.startswith(".")
    return path.suffix.lower() == ".gguf" and not hidden and not re.search(_COMPANIONS, path.stem, re.IGNORECASE)
