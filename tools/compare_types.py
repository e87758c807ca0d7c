#!/usr/bin/env python3
"""Compares the tensors of every quantization type with those of the reference's two steps, byte by byte.

    tools/compare_types.py WORKDIR --reference-convert "convert {source} {out} --outtype {type}"
        --reference-quantize "llama-quantize {imatrix} {source} {out} {type} 2"
        [--reference-imatrix "llama-imatrix -m {model} -f {text} -o {out}"]
        [--checkpoint FOLDER] [--types Q4_K_M,Q8_0]

The checkpoint is by default the embedded default model, rebuilt as a checkpoint. `{type}` of the first command is
`auto` for the file that the second one quantizes. With the third command all types get the importance matrix that it
makes; without, those that need one are refused. Prints a Markdown table; exit code 1 when a tensor differs.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench_convert import filled
from compare_gguf import different_tensors
from rebuild_checkpoint import default_gguf, rebuild

from localllm.convert import Settings, convert
from localllm.convert.quantizations import TYPES
from localllm.errors import UnsupportedModel
from localllm.gguf_file import read_header

UNQUANTIZED = ("F32", "F16", "BF16")
TEXT = "The history of the city begins with a small market by the river, where boats were unloaded at dawn. " * 200


@dataclass(frozen=True)
class Reference:
    """The commands, and where their files go. `imatrix` is a file that they made, or None."""

    workdir: Path
    convert: str
    quantize: str
    imatrix: Path | None

    def make(self, source: Path, half: Path, kind: str) -> Path:
        """The reference's file of this type: from the checkpoint, or from its conversion `half`."""
        out = self.workdir / "reference.gguf"
        out.unlink(missing_ok=True)
        if kind in UNQUANTIZED:
            run(filled(self.convert, source=source, out=out, type=kind.lower()))
            return out
        flag = f"--imatrix {self.imatrix}" if self.imatrix else ""
        run(shlex.split(self.quantize.format(source=half, out=out, type=kind, imatrix=flag)))
        return out


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")


def imatrix(command: str, model: Path, workdir: Path) -> Path:
    """An importance matrix from a little text."""
    text, out = workdir / "text.txt", workdir / "imatrix.gguf"
    text.write_text(TEXT, encoding="utf-8")
    run(filled(command, model=model, text=text, out=out))
    return out


def compare(checkpoint: Path, kinds: list[str], reference: Reference, half: Path) -> int:
    """Print a row for each type; returns how many tensors differ in all of them."""
    print("| type | tensors | that differ | bytes of the file |\n| --- | --- | --- | --- |", flush=True)
    total = 0
    for kind in kinds:
        ours = reference.workdir / "ours.gguf"
        settings = Settings(type=kind, imatrix=None if kind in UNQUANTIZED else reference.imatrix)
        try:
            convert(checkpoint, ours, settings=settings, force=True)
        except UnsupportedModel as error:
            print(f"| {kind} | refused: {error.message} | | |", flush=True)
            continue
        theirs = reference.make(checkpoint, half, kind)
        header = read_header(ours)
        different = different_tensors(header, read_header(theirs))
        total += len(different)
        print(f"| {kind} | {len(header.tensors)} | {len(different)} | {ours.stat().st_size:,} |", flush=True)
        for line in different[:3]:
            print(f"{kind}: {line}", file=sys.stderr)
        ours.unlink()
        theirs.unlink()
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="default: the embedded default model, rebuilt")
    parser.add_argument("--types", help="default: all")
    parser.add_argument("--reference-convert", metavar="COMMAND", required=True)
    parser.add_argument("--reference-quantize", metavar="COMMAND", required=True)
    parser.add_argument("--reference-imatrix", metavar="COMMAND")
    args = parser.parse_args()
    workdir: Path = args.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    checkpoint = args.checkpoint or rebuild(default_gguf(), workdir / "checkpoint")
    half = workdir / "half.gguf"
    run(filled(args.reference_convert, source=checkpoint, out=half, type="auto"))
    matrix = imatrix(args.reference_imatrix, half, workdir) if args.reference_imatrix else None
    kinds = args.types.split(",") if args.types else list(TYPES)
    reference = Reference(workdir, args.reference_convert, args.reference_quantize, matrix)
    return 1 if compare(checkpoint, kinds, reference, half) else 0


if __name__ == "__main__":
    sys.exit(main())
