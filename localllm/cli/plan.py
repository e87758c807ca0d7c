"""`localllm plan [MODEL]`: what a model would use on each device, in bytes, before it is loaded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.cli import options, table
from localllm.counts import counted

if TYPE_CHECKING:
    from localllm.native.devices import Device
    from localllm.runtime.types import Plan

EPILOG = """examples:
  localllm plan                              the default model
  localllm plan model.gguf --ctx 32768       with a larger context
  localllm plan model.gguf --kv-type q8_0    with a KV cache of half the size
  localllm plan model.gguf --worker 127.0.0.1:50052 --gpu-layers auto
                                             with the layers on a worker that fit there
  localllm plan model.gguf --machine laptop.json
                                             on the machine where `localllm devices --json` printed that
  localllm plan model.gguf --json            for programs; sizes in bytes

The numbers come from a simulated load and equal the real one to the byte. Weights that are mapped from the file live
in the page cache: the system may drop and read them again, but a model runs well only while they all stay in RAM.

The exit code is 0 if the model fits and 1 if it does not; `fits` of the JSON says the same.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `plan` command."""
    parser = commands.add_parser(
        "plan",
        help="what a model would use, in bytes, before loading",
        description="Show what a model would use on each device, and whether it fits in what is available now.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="path, catalogue name or model on this machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object, sizes in bytes")
    parser.add_argument(
        "--machine",
        type=Path,
        metavar="FILE",
        help="plan for another machine: what `localllm devices --json` prints there",
    )
    options.add_engine_flags(parser)
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle, usage_error=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Print the plan; then what does not fit is an error as it would be for a load."""
    from localllm import library
    from localllm.native import devices
    from localllm.runtime.apart import plan as make_plan
    from localllm.runtime.plan import check_fits

    path = library.resolve(args.model)
    options.route_log(args)
    if args.machine is None:
        plan = make_plan(path, options.engine_options(args))
    else:
        if args.worker:
            args.usage_error("--machine has its devices in its file: leave out --worker")
        with devices.assumed(_machine(args)):
            plan = make_plan(path, options.engine_options(args))
    if args.json:
        print(_as_json(plan))
    else:
        _print_table(plan)
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    sys.stdout.flush()  # the plan before the error
    check_fits(plan)
    return 0


def _machine(args: argparse.Namespace) -> list[Device]:
    """The devices in the file that `--machine` names."""
    import json

    from localllm.native.devices import Device

    try:
        rows = json.loads(args.machine.read_bytes())["devices"]
        found = [
            Device(row["name"], row["description"], row["kind"], int(row["free"]), int(row["total"]), handle=0)
            for row in rows
        ]
    except (ValueError, KeyError, TypeError):
        found = []
    if [device.kind for device in found].count("cpu") != 1:
        args.usage_error(f"{args.machine} is not what `localllm devices --json` prints")
    return found


def _as_json(plan: Plan) -> str:
    import json
    from dataclasses import asdict

    return json.dumps(
        {
            "model": str(plan.path),
            "ctx": plan.n_ctx,
            "gpu_layers": plan.gpu_layers,
            "kv_type": plan.options.kv_type,
            "cpu_moe": plan.options.cpu_moe,
            "devices": [asdict(device) for device in plan.devices],
            "total": plan.total,
            "fits": plan.fits,
            "advice": plan.advice,
            "exact": plan.exact,
            "estimate": plan.estimate,
            "more_weights": plan.more_weights,
            "notes": list(plan.notes),
        }
    )


def _print_table(plan: Plan) -> None:
    from localllm.runtime.types import mib, needs

    settings = (
        f"context {plan.n_ctx:,} tokens, KV cache {plan.options.kv_type}, {counted(plan.gpu_layers, 'layer')} offloaded"
    )
    print(f"{plan.path.name}: {settings}")
    print()
    rows: list[tuple[str, ...]] = [("device", "layers", "weights", "KV cache", "compute", "total", "available")]
    for device in plan.devices:
        sizes = (device.weights, device.kv, device.compute, needs(device), device.free)
        rows.append((device.name, str(device.layers), *map(mib, sizes)))
    for line in table.lines(rows, right=range(1, 7)):
        print(line)
    print()
    for device in plan.devices:
        if device.worker:
            print(f"{device.name} is the worker at {device.worker}.")
    if plan.options.cpu_moe:
        print(f"The experts of {counted(plan.options.cpu_moe, 'layer')} stay in RAM.")
    print("It fits." if plan.fits else "It does not fit.")
    for told in filter(None, (plan.estimate, plan.more_weights)):
        print(told)
