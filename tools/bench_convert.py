#!/usr/bin/env python3
"""Measures conversion: time, peak anonymous memory, bytes written, ours and the two steps of the reference.

    tools/bench_convert.py WORKDIR [--types Q4_K_M,Q8_0,Q4_0] [--rounds 1]
        [--reference-convert "python convert_hf_to_gguf.py {source} --outfile {out} --outtype auto"]
        [--reference-quantize "llama-quantize {source} {out} {type}"]

Makes a checkpoint of random weights in WORKDIR when it is not there (1.07 billion by default, bf16, two shards, made
slab by slab), then converts it with `localllm convert` and, when their commands are given, with the reference, in turn.
Compares the tensors of both results. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from compare_gguf import different_tensors
from make_tiny_models import TinyLlama, write_checkpoint
from rebuild_checkpoint import Source, default_gguf
from rebuild_tokenizer import tokenizer

from localllm.gguf_file import read_header

MODEL = TinyLlama(
    layers=16, hidden=2048, ffn=8192, heads=32, kv_heads=8, vocab=49152, dtype="bf16", shards=2, tied=True
)


@dataclass(frozen=True)
class Cost:
    """What one command took: seconds of wall time, peak of anonymous memory of all its processes, bytes of its file."""

    seconds: float
    peak_anonymous: int
    written: int


def anonymous_bytes(process: psutil.Process) -> int:
    """RssAnon of a process and its children, in bytes; what ended meanwhile counts nothing."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            for line in Path(f"/proc/{member.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
        except OSError:
            continue
    return total


def measure(command: list[str], out: Path, interval: float = 0.02) -> Cost:
    """Run a command to its end, sampling its memory."""
    out.unlink(missing_ok=True)
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            peak = max(peak, anonymous_bytes(process))
            time.sleep(interval)
        seconds = time.perf_counter() - began
        if child.returncode != 0:
            sys.exit(f"{shlex.join(command)} failed:\n{child.stderr.read() if child.stderr else ''}")
    return Cost(seconds, peak, out.stat().st_size)


def filled(template: str, **names: object) -> list[str]:
    return [part.format(**names) for part in shlex.split(template)]


def checkpoint(workdir: Path, model: TinyLlama) -> Path:
    """The random checkpoint, made when it is not there. The tokenizer is a real one, which the reference recognizes."""
    folder = workdir / "random-checkpoint"
    if not (folder / "model.safetensors.index.json").exists():
        print(f"writing {folder}", file=sys.stderr)
        write_checkpoint(folder, model, tokenizer(Source(default_gguf()).keys))
    return folder


def compare(workdir: Path, source: Path, types: list[str], rounds: int, steps: tuple[str, str] | None) -> list[object]:
    """Measure every type, our run beside the reference's; of several rounds the fastest counts."""
    rows: list[object] = []
    for kind in types:
        ours, half, theirs = (workdir / f"bench-{name}.gguf" for name in ("ours", "half", "reference"))
        command = [sys.executable, "-m", "localllm", "convert", str(source), "--outfile", str(ours), "--type", kind]
        best: dict[str, Cost] = {}
        for _ in range(rounds):
            costs = {"ours": measure(command, ours)}
            if steps is not None:
                costs["reference convert"] = measure(filled(steps[0], source=source, out=half), half)
                costs["reference quantize"] = measure(filled(steps[1], source=half, out=theirs, type=kind), theirs)
            for name, cost in costs.items():
                best[name] = min(best.get(name, cost), cost, key=lambda each: each.seconds)
        row: dict[str, object] = {"type": kind, "costs": {name: asdict(cost) for name, cost in best.items()}}
        if steps is not None:
            both = best["reference convert"].seconds + best["reference quantize"].seconds
            row["time_ratio"] = round(best["ours"].seconds / both, 3)
            row["different_tensors"] = len(different_tensors(read_header(ours), read_header(theirs)))
        for path in (ours, half, theirs):
            path.unlink(missing_ok=True)
        show(kind, best, row)
        rows.append(row)
    return rows


def show(kind: str, costs: dict[str, Cost], row: dict[str, object]) -> None:
    for name, cost in costs.items():
        memory = cost.peak_anonymous / 1e6
        print(
            f"{kind:8} {name:20} {cost.seconds:8.1f} s {memory:8.0f} MB anonymous {cost.written / 1e6:8.0f} MB written"
        )
    if "time_ratio" in row:
        print(f"{kind:8} ours / reference: {row['time_ratio']}, tensors that differ: {row['different_tensors']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--types", default="Q4_K_M,Q8_0,Q4_0")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--reference-convert", metavar="COMMAND")
    parser.add_argument("--reference-quantize", metavar="COMMAND")
    args = parser.parse_args()
    steps = None
    if args.reference_convert and args.reference_quantize:
        steps = (args.reference_convert, args.reference_quantize)
    args.workdir.mkdir(parents=True, exist_ok=True)
    source = checkpoint(args.workdir, MODEL)
    rows = compare(args.workdir, source, args.types.split(","), args.rounds, steps)
    print(json.dumps({"cores": psutil.cpu_count(logical=False), "results": rows}))


if __name__ == "__main__":
    main()
