#!/usr/bin/env python3
"""Measures conversion from a hub on the loopback beside the same from disk: time, processor time and memory.

    tools/bench_hub.py WORKDIR [--types Q8_0,Q4_K_M] [--rounds 3]

Makes a checkpoint of half a billion random weights (bf16, 1 GB, two shards) in WORKDIR when it is not there. The hub of
the tests serves it from a process of its own, on the same cores. Both ways take turns; of several rounds the fastest
counts. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

from bench_convert import Cost, checkpoint, measure
from compare_gguf import different_tensors
from make_tiny_models import TinyLlama

from localllm.gguf_file import read_header

ROOT = Path(__file__).resolve().parent.parent
MODEL = TinyLlama(
    layers=12, hidden=1536, ffn=6144, heads=24, kv_heads=8, vocab=49152, dtype="bf16", shards=2, tied=True
)
SERVE = """
import sys, threading
from pathlib import Path
from tests.library.hub_server import hub_server
with hub_server() as hub:
    hub.add("org/random", Path(sys.argv[1]))
    print(hub.url, flush=True)
    sys.stdin.read()
"""


def timed(command: list[str], out: Path) -> tuple[Cost, float]:
    """What a command took, and its processor seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    cost = measure(command, out)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cost, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(workdir: Path, source: Path, kind: str, rounds: int) -> dict[str, object]:
    """Both ways in turns, in one type."""
    outs = {name: workdir / f"bench-{name}.gguf" for name in ("disk", "hub")}
    best = dict[str, tuple[Cost, float]]()
    for _ in range(rounds):
        for name, place in (("disk", str(source)), ("hub", "org/random")):
            out = outs[name]
            command = [sys.executable, "-m", "localllm", "convert", place, "--outfile", str(out), "--type", kind]
            found = timed(command, out)
            best[name] = min(best.get(name, found), found, key=lambda each: each[0].seconds)
    different = different_tensors(*(read_header(out) for out in outs.values()))
    row: dict[str, object] = {"type": kind, "different_tensors": len(different)}
    for out in outs.values():
        out.unlink()
    for name, (cost, cpu) in best.items():
        print(
            f"{kind:8} {name:6} {cost.seconds:6.1f} s, {cpu:6.1f} s cpu, {cost.peak_anonymous / 1e6:5.0f} MB anonymous"
        )
        row[name] = {"seconds": cost.seconds, "cpu": cpu, "peak_anonymous": cost.peak_anonymous}
    row["ratio"] = round(best["hub"][0].seconds / best["disk"][0].seconds, 3)
    print(f"{kind:8} hub / disk: {row['ratio']}, tensors that differ: {len(different)}")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--types", default="Q8_0,Q4_K_M")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.workdir.mkdir(parents=True, exist_ok=True)
    source = checkpoint(args.workdir, MODEL)
    os.environ["PYTHONPATH"] = str(ROOT)
    os.environ["HF_HOME"] = str(args.workdir / "hf")
    command = [sys.executable, "-c", SERVE, str(source)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()
        rows = [compare(args.workdir, source, kind, args.rounds) for kind in args.types.split(",")]
        server.terminate()
    print(json.dumps({"bytes": sum(file.stat().st_size for file in source.iterdir()), "results": rows}))


if __name__ == "__main__":
    main()
