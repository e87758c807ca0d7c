"""`localllm tune [MODEL]`: measure which settings are fastest on this machine, and use them from now on."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.cli import options

if TYPE_CHECKING:
    from localllm.measure.bench import Row
    from localllm.measure.tune import Tuning

EPILOG = """examples:
  localllm tune                     the default model
  localllm tune model.gguf          under a minute, best while nothing else runs
  localllm tune model.gguf --dry    measure, and change nothing
  localllm tune model.gguf --forget
                                    load it with the usual settings again

Threads, flash attention, types of the KV cache and the size of a ubatch are measured near the start of a context and
deep in it. What is found is kept per model and machine, and used by every command that loads the model, where you leave
the flag open; `localllm plan` says so, and --no-tuned leaves it out once.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `tune` command."""
    parser = commands.add_parser(
        "tune",
        help="find the fastest settings for this machine",
        description="Measure which settings let a model read and write fastest here, and keep them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="path, catalogue name or model on this machine")
    parser.add_argument("--json", action="store_true", help="print one JSON object; the table goes to stderr")
    parser.add_argument("--dry", action="store_true", help="keep nothing")
    parser.add_argument("--forget", action="store_true", help="measure nothing, and forget what was found before")
    options.add_gpu_layers_flag(parser)
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Measure and keep, or forget."""
    from localllm import library

    path = library.resolve(args.model)
    options.route_log(args)
    return _forget(path, args) if args.forget else _tune(path, args)


def _forget(path: Path, args: argparse.Namespace) -> int:
    from localllm.runtime import tuned

    removed = tuned.forget(path)
    if args.json:
        import json

        print(json.dumps({"model": str(path), "forgotten": removed}))
    else:
        print(f"{args.model or path.name}: {'forgotten' if removed else 'nothing was kept'}.")
    return 0


def _named(args: argparse.Namespace) -> str:
    """The model as it was named, for a command line; nothing for the default one."""
    return f"{shlex.quote(args.model)} " if args.model else ""


def _tune(path: Path, args: argparse.Namespace) -> int:
    from localllm.measure import tune

    out = sys.stderr if args.json else sys.stdout
    print(f"{args.model or path.name}: measuring for up to a minute, best while nothing else runs", file=sys.stderr)
    found = tune.tune(path, gpu_layers=args.gpu_layers, on_row=_dot)
    print(file=sys.stderr)
    print(_table(found), file=out)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    file = None if args.dry else tune.store(found, gpu_layers=args.gpu_layers)
    if file is not None:
        print(f"Kept in {file}; `localllm tune {_named(args)}--forget` undoes that.", file=sys.stderr)
    if args.json:
        import json

        print(json.dumps({**found.as_json(), "file": None if file is None else str(file)}))
    return 0


def _dot(_: Row) -> None:
    """Something was measured."""
    print(".", end="", file=sys.stderr, flush=True)


def _table(found: Tuning) -> str:
    from localllm.measure.bench import READS, WRITES

    near, deep = f"at {found.effort.near:,}", f"at {found.effort.depth:,}"
    lines = [
        f"{'':<2}{'threads':>7}{'flash':>7}{'KV cache':>11}{'ubatch':>8}"
        f"{f'prefill {near}':>16}{deep:>10}{f'decode {near}':>15}{deep:>10}{'turn':>9}{'memory':>13}"
    ]
    lines += [_line(row, chosen=row.choice == found.choice) for row in found.rows]
    lines += [
        "",
        f"Rates in tokens a second; a turn reads {READS} tokens and writes {WRITES}.",
        f"Chosen (*): {found.choice}: "
        + (f"{found.gain:.2f} times as fast as without." if found.choice != found.before else "as without."),
    ]
    return "\n".join(lines)


def _line(row: Row, *, chosen: bool) -> str:
    from localllm.runtime.types import mib

    choice, speed = row.choice, row.speed
    return (
        f"{'*' if chosen else '':<2}{choice.threads:>7}{'on' if choice.flash_attention else 'off':>7}"
        f"{choice.kv_type:>11}{choice.n_ubatch:>8}{speed.prefill[0]:>16.1f}{speed.prefill[1]:>10.1f}"
        f"{speed.decode[0]:>15.1f}{speed.decode[1]:>10.1f}{row.seconds:>7.2f} s{mib(row.memory):>13}"
    )
