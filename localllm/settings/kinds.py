"""What the value of a setting may be: each kind reads one from TOML or from a text, and refuses what is wrong.

Knows no key, and nothing of what a value is for.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm import paths

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
WINDOWS = ("stop", "drop-oldest-turns", "shift")
MAX_THREADS, LARGEST_SEED, MOST_TOKENS = 512, (1 << 32) - 2, (1 << 31) - 1
"""The same as in localllm.runtime, which a test compares: importing its modules would cost `--help` its speed."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{unit}I": 1 << (10 * power) for power, unit in enumerate("KMGT", 1)}


@dataclass(frozen=True)
class Kind:
    """A kind of value. `said` is what it may be, in words behind "must be".

    `check` makes of a value as it stands in TOML the one that programs use, or raises `ValueError`. `from_text` makes a
    value for TOML of a text, as people write it in the environment or on a command line; `check` then says whether it
    is right.
    """

    said: str
    check: Callable[[Any], Any]
    from_text: Callable[[str], Any]


def whole(low: int, high: int) -> Kind:
    """A whole number in a range."""

    def check(value: Any) -> int:
        _require(isinstance(value, int) and not isinstance(value, bool) and low <= value <= high)
        return int(value)

    return Kind(f"a whole number from {low} to {high:,}", check, _number_or_text)


def number(low: float, high: float = math.inf) -> Kind:
    """A number in a range, infinity left out."""

    def check(value: Any) -> float:
        _require(isinstance(value, int | float) and not isinstance(value, bool))
        _require(math.isfinite(value) and low <= value <= high)
        return float(value)

    limits = f"a number from {low:g}" + ("" if math.isinf(high) else f" to {high:g}")
    return Kind(limits if math.isfinite(low) else "a number", check, _number_or_text)


def choice(*names: str) -> Kind:
    """One of some names."""

    def check(value: Any) -> str:
        _require(value in names)
        return str(value)

    return Kind(f"one of {', '.join(names)}", check, str)


def auto_or(kind: Kind) -> Kind:
    """Another kind, or `auto`, which is None to programs."""
    return Kind(f"{kind.said}, or auto", lambda value: None if value == "auto" else kind.check(value), kind.from_text)


def parse_size(text: str) -> int:
    """A number of bytes as people write it: `6GB` and `6G` are 6e9, `6GiB` is 6 * 2**30.

    Raises:
        ValueError: it is none, or not more than 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if match is None or match.group(2) not in _UNITS or float(match.group(1)) <= 0:
        raise ValueError(text)
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def _size(value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value)
    _require(isinstance(value, int) and not isinstance(value, bool) and value >= 0)
    return int(value)


def _kv_type(value: Any) -> str:
    _require(isinstance(value, str))
    k, _, v = value.partition("/")
    _require(value == "auto" or {k, v or k} <= set(KV_TYPES))
    return str(value)


def _text(value: Any) -> str:
    _require(isinstance(value, str) and bool(value.strip()))
    return str(value)


def _folders(value: Any) -> tuple[Path, ...]:
    _require(isinstance(value, Sequence) and not isinstance(value, str) and bool(value))
    _require(all(isinstance(folder, str) and folder for folder in value))
    found = tuple(paths.expanded(folder) for folder in value)
    _require(all(folder.is_absolute() for folder in found))
    return found


def _folders_from_text(text: str) -> list[str]:
    # A text is written where the person is; a file is read from anywhere.
    return [_from_here(folder) for folder in text.split(os.pathsep) if folder]


def _from_here(folder: str) -> str:
    path = paths.expanded(folder)
    # The home of nobody stays as it is, for `check` to refuse it.
    return folder if str(path).startswith("~") else str(path.absolute())


def _number_or_text(text: str) -> int | float | str:
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text


def _require(right: bool) -> None:
    if not right:
        raise ValueError


SIZE = Kind("an amount of memory, such as 512MiB or 2GB, or 0 for none", _size, _number_or_text)
KV_TYPE = Kind(f"auto, one of {', '.join(KV_TYPES)}, or two of these as K/V", _kv_type, str)
TEXT = Kind("a text", _text, str)
FOLDERS = Kind(
    f"a list of folders from the root on or from ~, as a text with {os.pathsep!r} between", _folders, _folders_from_text
)
