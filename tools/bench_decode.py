#!/usr/bin/env python3
"""Decode and prefill rate of `localllm run` beside `llama-bench`, on the same file, in turns, as a ratio.

    tools/bench_decode.py --llama-bench PATH [--model GGUF] [--rounds 5] [--tokens 256]

`llama-bench` neither samples nor makes text; `run` does both. Each round runs one after the other with the same
threads, so that what else the machine does hits both. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from localllm import library
from localllm.native.machine import usable_threads
from localllm.native.vocab import open_vocab

STORY = "Once upon a time there was a small village by the sea, where every house had a blue door and a garden. "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-bench", type=Path, required=True, help="the program, built from the same source")
    parser.add_argument("--model", help="path or name (default: the embedded default)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=256)
    args = parser.parse_args()
    model, threads = library.resolve(args.model), usable_threads()
    prompt, depth = prompt_of(model)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(args.rounds):
        ours.append(run(model, prompt, args.tokens, threads))
        theirs.append(llama_bench(args.llama_bench, model, depth, args.tokens, threads))
        print(
            f"round {number + 1}: run prefill {ours[-1][0]:.1f} decode {ours[-1][1]:.1f}, "
            f"llama-bench prefill {theirs[-1][0]:.1f} decode {theirs[-1][1]:.1f} tokens/s",
            file=sys.stderr,
        )
    report(model, threads, depth, args.tokens, ours, theirs)


def prompt_of(model: Path) -> tuple[str, int]:
    """A text of about 512 tokens that a model likes to go on with, and how many tokens it is."""
    with open_vocab(model) as vocab:
        text = STORY * 21
        return text, len(vocab.tokenize(text, add_special=True, parse_special=True))


def run(model: Path, prompt: str, tokens: int, threads: int) -> tuple[float, float]:
    """(prefill, decode) of our command in tokens per second."""
    command = [sys.executable, "-m", "localllm", "run", str(model), prompt, "--raw", "--json", "--temperature", "0"]
    command += ["--max-tokens", str(tokens), "--threads", str(threads), "--ctx", "2048"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    stats = json.loads(done.stdout.splitlines()[-1])["stats"]
    if stats["completion_tokens"] < tokens:
        raise SystemExit(f"the model ended after {stats['completion_tokens']} tokens: choose another model or --tokens")
    return stats["prefill_tps"], stats["decode_tps"]


def llama_bench(program: Path, model: Path, depth: int, tokens: int, threads: int) -> tuple[float, float]:
    """(prefill, decode at the same depth) of llama-bench in tokens per second."""
    rates = []
    for what in (["-p", str(depth), "-n", "0"], ["-p", "0", "-n", str(tokens), "-d", str(depth)]):
        command = [str(program), "-m", str(model), *what, "-t", str(threads), "-r", "1", "-o", "json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rates.append(float(json.loads(done.stdout)[0]["avg_ts"]))
    return rates[0], rates[1]


def report(
    model: Path,
    threads: int,
    depth: int,
    tokens: int,
    ours: list[tuple[float, float]],
    theirs: list[tuple[float, float]],
) -> None:
    summary: dict[str, object] = {"model": model.name, "threads": threads, "rounds": len(ours), "tokens": tokens}
    print(f"{model.name}, {threads} threads, median of {len(ours)} rounds, tokens/s")
    print(f"{'':<10}{'run':>10}{'llama-bench':>14}{'ratio':>8}")
    for index, name in enumerate((f"pp{depth}", f"tg{tokens}@{depth}")):
        mine = statistics.median(pair[index] for pair in ours)
        other = statistics.median(pair[index] for pair in theirs)
        print(f"{name:<10}{mine:>10.1f}{other:>14.1f}{mine / other:>8.3f}")
        summary[name] = {"run": mine, "llama_bench": other, "ratio": round(mine / other, 4)}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
