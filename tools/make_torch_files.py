#!/usr/bin/env python3
"""Remakes the files of `torch.save` in tests/convert/torch_files. The tests read them without torch.

    python tools/make_torch_files.py

Needs torch; run it from the top folder.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

FOLDER = Path("tests/convert/torch_files")


def tensors() -> OrderedDict[str, Any]:
    """A tensor of each kind: types, a parameter, two names for one storage, a part of it, a scalar."""
    import torch

    def counting(shape: tuple[int, ...], dtype: Any) -> Any:
        return torch.arange(math.prod(shape)).reshape(shape).to(dtype)

    whole = counting((6, 4), torch.float32)
    found: OrderedDict[str, Any] = OrderedDict(
        {
            "a.weight": counting((3, 4), torch.float16),
            "a.bias": torch.nn.Parameter(counting((3,), torch.bfloat16)),
            "b.weight": whole,
            "b.tied": whole,
            "b.part": whole[2:5],
            "c.ids": counting((1, 5), torch.int64),
            "c.scalar": torch.tensor(7.0, dtype=torch.float64),
            "c.flags": counting((4,), torch.bool),
        }
    )
    found._metadata = {"": {"version": 1}}  # type: ignore[attr-defined] # as modules leave it
    return found


def main() -> None:
    """Write the files."""
    import torch

    FOLDER.mkdir(exist_ok=True)
    torch.save(tensors(), FOLDER / "legacy.bin", _use_new_zipfile_serialization=False)
    newer = tensors()
    newer["d.codes"] = torch.arange(6.0).reshape(2, 3).to(torch.float8_e4m3fn)
    torch.save(newer, FOLDER / "zip.bin")
    torch.save({"a": torch.arange(12.0).reshape(3, 4).T}, FOLDER / "transposed.bin")
    torch.save(torch.nn.Linear(2, 2), FOLDER / "module.bin")


if __name__ == "__main__":
    main()
