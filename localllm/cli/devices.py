"""`localllm devices`: what ggml can compute on here, how much memory that has, and what goes to waste."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from localllm.cli import options

if TYPE_CHECKING:
    from localllm.native.machine import Limits

EPILOG = """examples:
  localllm devices                what there is, and what limits it
  localllm devices --bandwidth    and how fast it reads memory: a second each
  localllm devices --worker 127.0.0.1:50052
                                  and what a worker offers
  localllm devices --json         for programs; sizes in bytes, bandwidth in bytes a second

A worker's bandwidth is measured where it runs; here its round trip is shown, of which a token takes several.
Writing a token reads all weights once, so a device writes at most bandwidth / bytes of the weights tokens a second.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `devices` command."""
    parser = commands.add_parser(
        "devices",
        help="what models can run on here",
        description="Show every device that llama.cpp sees, its memory, the limits of this process, and unused GPUs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, sizes in bytes")
    parser.add_argument("--bandwidth", action="store_true", help="measure how fast each device reads its memory")
    options.add_worker_flag(parser)
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Print the devices."""
    from localllm.native import accelerators, devices, machine

    options.route_log(args)
    remote = [row for worker in args.worker for row in _worker_rows(worker)]
    present = devices.devices()
    limits, threads = machine.limits(), machine.usable_threads()
    rows = remote + [
        {
            "name": device.name,
            "kind": device.kind,
            "description": device.description,
            "free": device.free,
            "total": device.total,
            "bandwidth": _bandwidth(device, threads) if args.bandwidth else None,
        }
        for device in present
    ]
    unused = accelerators.unused(present, devices.backends())
    if args.json:
        print(_as_json(rows, devices.cpu_features(), limits, threads, [vars(gpu) for gpu in unused]))
        return 0
    _print_table(rows)
    print(f"CPU features: {', '.join(devices.cpu_features())}")
    print(f"Threads: {threads} ({_thread_reasons(limits)})")
    if limits.memory is not None:
        print(f"Memory: a cgroup allows this process {_size(limits.memory)}")
    for gpu in unused:
        print(f"note: {gpu}", file=sys.stderr)
    return 0


def _worker_rows(endpoint: str) -> list[dict[str, Any]]:
    """A row for each device of a worker. llama.cpp is not asked: it would end this process if the worker went away."""
    from localllm.native import rpc

    found = rpc.ask(endpoint)
    description = f"answers within {found.round_trip * 1000:.1f} ms"
    shared = {"name": endpoint, "kind": "worker", "description": description, "bandwidth": None}
    return [{**shared, "free": free, "total": total} for free, total in found.memory]


def _bandwidth(device: Any, threads: int) -> float | None:
    """Bytes a second; None, and why, where it cannot be measured."""
    from localllm.errors import DoesNotFit
    from localllm.native.bandwidth import measure

    try:
        return measure(device, threads)
    except DoesNotFit as error:
        print(f"note: {error.message}", file=sys.stderr)
        return None


def _as_json(
    rows: list[dict[str, Any]], features: list[str], limits: Limits, threads: int, unused: list[dict[str, str]]
) -> str:
    import json
    from dataclasses import asdict

    from localllm.native import lib

    return json.dumps(
        {
            "devices": rows,
            "cpu_features": features,
            "threads": threads,
            "limits": asdict(limits),
            "unused_gpus": unused,
            "build": lib.build(),
        }
    )


def _print_table(rows: list[dict[str, Any]]) -> None:
    measured = any(row["bandwidth"] for row in rows)
    heading = f"{'bandwidth':>12}" if measured else ""
    width = 2 + max(len("device"), *(len(row["name"]) for row in rows))
    print(f"{'device':<{width}}{'kind':<8}{'available':>12}{'total':>12}{heading}  description")
    for row in rows:
        speed = f"{row['bandwidth'] / 1e9:.1f} GB/s" if row["bandwidth"] else ""
        column = f"{speed:>12}" if measured else ""
        sizes = f"{_size(row['free']):>12}{_size(row['total']):>12}"
        print(f"{row['name']:<{width}}{row['kind']:<8}{sizes}{column}  {row['description']}")
    print()


def _size(size: int) -> str:
    from localllm.runtime.types import mib

    return mib(size)


def _thread_reasons(limits: Limits) -> str:
    cores = f"{limits.physical_cores} physical cores in the {limits.allowed_cpus} CPUs this process may use"
    return cores if limits.cpu_quota is None else f"{cores}, a cgroup pays for {limits.cpu_quota:g}"
