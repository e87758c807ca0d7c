#!/usr/bin/env python3
"""Checks offloading on this machine's GPU: the plan beside what was really taken, the same tokens, and the speed.

    tools/check_offload.py [--model GGUF] [--layers 0 half all auto] [--leave MIB] [--tokens 48] [--json FILE]

Each number of layers is loaded in a process of its own, answers greedily, and is compared with 0 layers. `half` and
`all` are counted from the file, `auto` is what localllm chooses. --leave takes all but so much of the first GPU's free
memory before, so that a large GPU stands for a small one. Free memory is what the device says: what the driver keeps
for a process (kernels, handles) is in it and not in a plan. The exit status is 1 if a load took more or less than it
planned.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from localllm import library
from localllm.gguf_file import read_header
from localllm.native import devices, lib
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.plan import make_plan
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import DeviceMemory, needs

MIB = 1 << 20
STORY = "Once upon a time there was a small village by the sea, where every house had a blue door and a garden. "
ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="path or name (default: the embedded default)")
    parser.add_argument("--layers", nargs="+", default=["0", "half", "all"], help="(default: 0 half all)")
    parser.add_argument("--leave", type=int, default=0, metavar="MIB", help="free memory of the first GPU")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--ctx", type=int, default=2048)
    parser.add_argument("--json", type=Path, help="write everything that was found to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    path = library.resolve(args.model)
    if args.one is not None:
        print(json.dumps(one(path, args.one, args)))
        return 0
    found = [in_a_process(path, layers, args) for layers in args.layers]
    print(f"{path.name}, {found[0]['gpu']}, context {args.ctx:,}\n")
    print(table(found))
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["as_planned"] for row in found) else 1


def in_a_process(path: Path, layers: str, args: argparse.Namespace) -> dict[str, Any]:
    """What `one` finds in a new process, since a device gives back all memory only when a process ends."""
    command = [sys.executable, __file__, "--model", str(path), "--one", layers, "--leave", str(args.leave)]
    command += ["--tokens", str(args.tokens), "--ctx", str(args.ctx)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one(path: Path, layers: str, args: argparse.Namespace) -> dict[str, Any]:
    """Plan, load, answer and time with so many layers on the GPU."""
    whole = read_header(path).n_layer + 1
    count = {"half": whole // 2, "all": whole, "auto": None}.get(layers, layers)
    options = Options(n_ctx=args.ctx, gpu_layers=None if count is None else int(count), draft="off", tuned=False)
    gpus = devices.offload_devices(devices.devices())
    if gpus and args.leave:
        hold(gpus[0], gpus[0].free - args.leave * MIB)
    before = free()
    plan = make_plan(path, options)
    with Model.load(path, options) as model:
        loaded = free()
        answer, likelihoods = tokens_of(model, args.tokens)
        answered = free()
        rates = [rates_of(model, number) for number in range(ROUNDS)]
        really = model.memory().devices
    return {
        "layers": layers,
        "gpu": ", ".join(device.description for device in gpus) or "no GPU",
        "exact": plan.exact,
        "as_planned": sizes(plan.devices) == sizes(really),
        "planned": [asdict(part) for part in plan.devices],
        "really": [asdict(part) for part in really],
        "free": {name: [before[name], loaded[name], answered[name]] for name in before},
        "tokens": answer,
        "likelihoods": likelihoods,
        "prefill": statistics.median(prefill for prefill, _ in rates),
        "decode": statistics.median(decode for _, decode in rates),
        "notes": list(plan.notes),
    }


def hold(device: devices.Device, size: int) -> None:
    """Take `size` bytes of the device until this process ends."""
    base = lib.ggml("ggml-base")
    kind = lib.bind(base, "ggml_backend_dev_buffer_type", ctypes.c_void_p, ctypes.c_void_p)(device.handle)
    if not lib.bind(base, "ggml_backend_buft_alloc_buffer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
        kind, size
    ):
        sys.exit(f"{device.name} has no {size / MIB:,.0f} MiB to take")


def free() -> dict[str, int]:
    """Bytes free on each device that is not the CPU."""
    return {device.name: device.free for device in devices.devices() if device.kind != "cpu"}


def sizes(parts: Sequence[DeviceMemory]) -> list[tuple[object, ...]]:
    """What a plan says and a load can be held to."""
    return [(part.name, part.weights, part.kv, part.compute, part.layers) for part in parts]


def tokens_of(model: Model, count: int) -> tuple[list[int], list[list[tuple[str, float]]]]:
    """A greedy answer's tokens, and for each the two likeliest with their log-probabilities."""
    reply = model.complete(STORY, sampling=Sampling(temperature=0, logprobs=2), max_tokens=count)
    for _ in reply:
        pass
    likeliest = [[(each.text, each.logprob) for each in token.top] for token in reply.logprobs]
    return [token.token for token in reply.logprobs], likeliest


def rates_of(model: Model, number: int) -> tuple[float, float]:
    """(prefill, decode) in tokens per second, of a text that was not read before."""
    reply = model.complete(f"{number}. " + STORY * 22, sampling=Sampling(temperature=0), max_tokens=128)
    for _ in reply:
        pass
    assert reply.stats is not None
    return reply.stats.prefill_tps, reply.stats.decode_tps


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown, MiB; the first row's tokens are those the others are compared with."""
    lines = [
        "| layers | device | planned | ledger | taken by loading | by answering | prefill | decode | same tokens |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in found:
        for planned, really in zip(row["planned"], row["really"], strict=True):
            if planned["kind"] == "cpu" and len(row["planned"]) > 1:
                continue
            before, loaded, answered = row["free"].get(planned["name"], (0, 0, 0))
            cells = [
                f"{row['layers']} ({planned['layers']})",
                planned["name"],
                f"{needs(DeviceMemory(**planned)) / MIB:,.1f}",
                f"{needs(DeviceMemory(**really)) / MIB:,.1f}",
                f"{(before - loaded) / MIB:,.1f}",
                f"{(loaded - answered) / MIB:,.1f}",
                f"{row['prefill']:,.0f}",
                f"{row['decode']:,.1f}",
                compared(found[0], row),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compared(first: dict[str, Any], row: dict[str, Any]) -> str:
    """How many tokens are the same, and how close the choice was where they part."""
    pairs = zip(first["tokens"], row["tokens"], strict=False)
    same = next((index for index, (ours, theirs) in enumerate(pairs) if ours != theirs), len(row["tokens"]))
    if same == len(first["tokens"]):
        return f"all {same}"
    (likeliest, best), (second, next_best) = first["likelihoods"][same]
    return f"{same}; then {likeliest!r} is ahead of {second!r} by {best - next_best:.4f}"


if __name__ == "__main__":
    sys.exit(main())
