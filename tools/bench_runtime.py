#!/usr/bin/env python3
"""Our runtime beside llama.cpp's programs and llama-cpp-python: same file, same threads, in turns, as ratios.

    tools/bench_runtime.py --bin DIR [--model GGUF] [--rounds 5] [--row NAME …] [--json FILE]

DIR holds `llama-bench` and `llama-server`, built from the source that llama-cpp-python was built from. The table is
Markdown, medians with (lowest–highest); --json has every round. Rows can be run alone; `bench` is decode and prefill.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from runtime_bench.result import Result, markdown
from runtime_bench.rows import ROWS, Bench

from localllm import library
from localllm.native import devices, lib, machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True, help="folder of llama.cpp's programs")
    parser.add_argument("--model", help="path or name (default: the embedded default)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="(default: physical cores)")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this one; may be given several times")
    parser.add_argument("--json", type=Path, help="write every round to this file")
    args = parser.parse_args()
    threads = args.threads or machine.usable_threads()
    bench = Bench(library.resolve(args.model), args.bin, threads, args.rounds)
    results: list[Result] = []
    for name in args.row or ROWS:
        print(f"{name}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        found = ROWS[name](bench)
        results += found
        print("\n".join(markdown(found).splitlines()[-len(found) :]), file=sys.stderr)
    processor = devices.devices()[-1].description
    print(f"{bench.model.name}, {processor}, {threads} threads, {args.rounds} rounds, {lib.build()}\n")
    print(markdown(results))
    if args.json is not None:
        args.json.write_text(json.dumps([result.as_json() for result in results], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
