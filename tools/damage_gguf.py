#!/usr/bin/env python3
"""Flips single bits of a small converted file and counts how many `localllm verify --against` finds.

    tools/damage_gguf.py [--flips 200] [--seed 1] [--type Q4_K_M]

Half of the flips hit the header, which is small in real files and full of things that can be wrong. Prints where those
bits were that nobody missed, and one JSON object as the last line. Needs numpy and tokenizers.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections import Counter
from pathlib import Path

from make_tiny_models import TinyLlama, write_checkpoint

from localllm.convert import convert, verify_file
from localllm.errors import LocalLLMError
from localllm.gguf_file import Header, read_header


def place(header: Header, at: int) -> str:
    """The key or the tensor that holds a byte."""
    if at >= header.data_offset:
        held = (info.name for info in header.tensors if info.offset <= at < info.offset + info.n_bytes)
        return next(held, "padding")
    named = (key for key, (start, end) in header.spans.items() if start - 8 - len(key) <= at < end)
    return next(named, "the list of tensors")


def found(path: Path, source: Path) -> bool:
    """Whether verify has something to say against a file."""
    try:
        return not verify_file(path, source).ok
    except LocalLLMError:
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--type", default="Q4_K_M", metavar="T")
    args = parser.parse_args()
    generator, missed = random.Random(args.seed), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="localllm-") as folder:
        source = write_checkpoint(Path(folder) / "tiny", TinyLlama(layers=1, ffn=256))
        whole = convert(source, Path(folder) / "whole.gguf", type=args.type).outfile
        data, header, path = whole.read_bytes(), read_header(whole), Path(folder) / "damaged.gguf"
        for number in range(args.flips):
            at = generator.randrange(header.data_offset if number % 2 else len(data))
            damaged = bytearray(data)
            damaged[at] ^= 1 << generator.randrange(8)
            path.write_bytes(damaged)
            if not found(path, source):
                missed[place(header, at)] += 1
    for name, count in missed.most_common():
        print(f"{count:4} not found in {name}")
    print(json.dumps({"flips": args.flips, "seed": args.seed, "found": args.flips - missed.total(), "missed": missed}))


if __name__ == "__main__":
    main()
