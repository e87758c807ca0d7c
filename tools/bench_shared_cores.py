#!/usr/bin/env python3
"""Decode rate of `localllm run` while other processes want the same cores, with our way to wait and others.

    tools/bench_shared_cores.py [--model GGUF] [--rounds 5] [--busy 0 1 2] [--spin ours 300000] [--llama-bench PATH]

OpenMP's threads wait for each other hundreds of times a token. By default they spin for long, which is fastest on idle
cores and ruinous on shared ones; localllm switches between long and brief (`localllm/native/spin.py`). 300000 is
libgomp's own default. The values run in turns beside each number of busy processes. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from localllm import library

PROMPT = "Once upon a time in a village by the sea"
BUSY = "while True: pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="path or name (default: the embedded default)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], help="other processes that keep a core busy")
    parser.add_argument("--spin", nargs="+", default=["ours", "300000"], help="values of GOMP_SPINCOUNT to compare")
    parser.add_argument("--llama-bench", type=Path, help="measure this program beside")
    args = parser.parse_args()
    model = library.resolve(args.model)
    rates: dict[str, list[float]] = {}
    for busy in args.busy:
        place = f"{busy} busy"
        others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
        try:
            for _ in range(args.rounds):
                for spin in args.spin:
                    rate = decode_rate(model, args.tokens, None if spin == "ours" else spin)
                    rates.setdefault(f"spin {spin}, {place}", []).append(rate)
                if args.llama_bench:
                    rates.setdefault(f"llama-bench, {place}", []).append(bench(args.llama_bench, model, args.tokens))
        finally:
            for other in others:
                other.kill()
                other.wait()
    report(model, rates)


def decode_rate(model: Path, tokens: int, spin: str | None) -> float:
    """Tokens per second of one run."""
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    command = [sys.executable, "-m", "localllm", "run", str(model), PROMPT, "--raw", "--json", "--temperature", "0"]
    command += ["--max-tokens", str(tokens), "--ctx", "1024"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    return float(json.loads(done.stdout.splitlines()[-1])["stats"]["decode_tps"])


def bench(program: Path, model: Path, tokens: int) -> float:
    """Tokens per second of llama-bench, with its defaults."""
    command = [str(program), "-m", str(model), "-p", "0", "-n", str(tokens), "-r", "1", "-o", "json"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def report(model: Path, rates: dict[str, list[float]]) -> None:
    print(f"{model.name}, decode in tokens/s")
    print(f"{'':<28}{'median':>8}{'lowest':>8}{'highest':>9}")
    for name, values in rates.items():
        print(f"{name:<28}{statistics.median(values):>8.1f}{min(values):>8.1f}{max(values):>9.1f}")
    print(json.dumps({"model": model.name, "decode_tps": rates}))


if __name__ == "__main__":
    main()
