#!/usr/bin/env python3
"""Compares two GGUF files: metadata by key, tensors by name, shape, type and bytes. Exit code 1 when they differ.

    tools/compare_gguf.py A.gguf B.gguf [--tensors-only]

The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import BinaryIO

from localllm.gguf_file import Array, Header, TensorInfo, read_header

CHUNK = 16 << 20


def different_keys(first: Header, second: Header) -> list[str]:
    """What differs between the metadata, one line per key; the order of keys is not compared."""
    lines = []
    for key in sorted(first.metadata.keys() | second.metadata.keys()):
        values = [header.metadata.get(key) for header in (first, second)]
        if values[0] != values[1]:
            lines.append(f"{key}: {' | '.join(shown(value) for value in values)}")
    return lines


def shown(value: object) -> str:
    if value is None:
        return "(missing)"
    if isinstance(value, Array):
        return f"{list(value[:3])}... ({len(value)})"
    return repr(value)[:60]


def different_tensors(first: Header, second: Header) -> list[str]:
    """What differs between the tensors, one line per tensor."""
    ours, theirs = ({tensor.name: tensor for tensor in header.tensors} for header in (first, second))
    lines = [f"{name}: only in one file" for name in sorted(ours.keys() ^ theirs.keys())]
    with first.path.open("rb") as a, second.path.open("rb") as b:
        for name in sorted(ours.keys() & theirs.keys()):
            left, right = ours[name], theirs[name]
            if (left.shape, left.type_name) != (right.shape, right.type_name):
                lines.append(f"{name}: {left.type_name} {left.shape} | {right.type_name} {right.shape}")
            elif not same_bytes(a, left, b, right):
                lines.append(f"{name}: {left.type_name} {left.shape}: bytes differ")
    return lines


def same_bytes(a: BinaryIO, left: TensorInfo, b: BinaryIO, right: TensorInfo) -> bool:
    a.seek(left.offset)
    b.seek(right.offset)
    rest = left.n_bytes
    while rest:
        size = min(rest, CHUNK)
        if a.read(size) != b.read(size):
            return False
        rest -= size
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--tensors-only", action="store_true", help="leave metadata out")
    args = parser.parse_args()
    first, second = read_header(args.first), read_header(args.second)
    keys = [] if args.tensors_only else different_keys(first, second)
    tensors = different_tensors(first, second)
    for line in [*keys, *tensors]:
        print(line)
    order = [tensor.name for tensor in first.tensors] == [tensor.name for tensor in second.tensors]
    found = {"keys": len(keys), "tensors": len(tensors), "compared": len(first.tensors), "same_tensor_order": order}
    print(json.dumps(found))
    return 1 if keys or tensors else 0


if __name__ == "__main__":
    sys.exit(main())
