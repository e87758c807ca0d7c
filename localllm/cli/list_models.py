"""`localllm list`: the models on this machine, whoever put them there."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from localllm.cli import table
from localllm.counts import counted

if TYPE_CHECKING:
    from localllm.library.inventory import Row

EPILOG = """examples:
  localllm list               every model on this machine
  localllm list qwen q8       those with these words in their names
  localllm list --json        for programs; sizes in bytes, times in seconds since 1970

Where it looks, in the order in which a name is looked for: the models folders, packages that carry a model, the cache
of the Hugging Face hub, the cache of llama.cpp, LM Studio, Ollama. What they hold is used where it is: each model runs
by the name in the first column, and nothing is copied. "fits" is a quick estimate for 8,192 tokens and the memory that
is free now; `localllm plan NAME` is exact. Nobody can chat with a model that has "no chat template", but it goes on
with a text: `localllm run NAME --raw TEXT`. A narrow terminal shows fewer columns; `localllm list | cat` shows them
all.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `list` command."""
    parser = commands.add_parser(
        "list",
        help="the models on this machine, also those of Ollama, LM Studio, llama.cpp and the hub's cache",
        description="List the models on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only models with these words in their names")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--names", action="store_true", help="print the names alone, and open no model")
    shown.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Print the list; an empty one is no error."""
    from localllm.cli.bar import Bar
    from localllm.library.inventory import bytes_on_disk, chosen_models, inventory

    if args.names:
        for name, _ in chosen_models(args.words):
            print(name)
        return 0
    with Bar(None, " headers", passing=True) as bar:
        rows = inventory(args.words, bar.update if sys.stderr.isatty() else None)
    models = [row.model for row in rows]
    if args.json:
        print(json.dumps({"models": [as_json(row) for row in rows], "bytes": bytes_on_disk(models)}))
    elif not rows:
        print(f"no model here has {' '.join(args.words)!r} in its name" if args.words else _NOTHING)
    else:
        _print_table(rows)
        print(f"\n{counted(len(rows), 'model')}, {table.size(bytes_on_disk(models))}", file=sys.stderr)
    return 0


_NOTHING = "There is no model on this machine. Get one: localllm pull smollm2:135m (98 MB)"


def as_json(row: Row) -> dict[str, Any]:
    """What programs get of a row; null where it is not known."""
    from localllm.library.places import KINDS

    model, facts = row.model, row.facts
    return {
        "name": row.name,
        "path": str(model.path),
        "files": [str(part) for part in model.parts],
        "bytes": model.size,
        "place": KINDS.get(model.kind, model.kind),
        "repo": model.repo or None,
        "architecture": facts.architecture or None,
        "quantization": facts.quantization or None,
        "parameters": facts.parameters or None,
        "context": facts.context or None,
        "last_used": row.used or None,
        "needed_estimate": facts.needed or None,
        "fits_estimate": row.fits,
        "has_chat_template": facts.has_template if not facts.problem else None,
        "problem": facts.problem or None,
    }


def _fits(row: Row) -> str:
    if row.facts.problem:
        return f"no: {row.facts.problem}"
    fits = {None: "?", True: "yes", False: "no"}[row.fits]
    return fits if row.facts.has_template else f"{fits}, no chat template"


def _print_table(rows: Sequence[Row]) -> None:
    from localllm.library.places import KINDS

    heading = ("name", "size", "type", "weights", "context", "place", "used", "fits")
    cells = [
        (
            row.name,
            table.size(row.model.size),
            row.facts.quantization or row.model.quantization or "?",
            table.count(row.facts.parameters),
            f"{row.facts.context:,}" if row.facts.context else "?",
            KINDS[row.model.kind],
            table.since(row.used),
            _fits(row),
        )
        for row in rows
    ]
    for line in table.fitting([heading, *cells], right={1, 3, 4}, spare=(3, 6, 4, 5)):
        print(line)
