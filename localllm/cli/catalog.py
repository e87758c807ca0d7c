"""`localllm catalog`: the models worth having, what each needs, and whether that is free here."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from localllm.cli import table

if TYPE_CHECKING:
    from localllm.library.catalog import Entry, File

EPILOG = """examples:
  localllm catalog            thirty models, from small to large
  localllm catalog qwen code  those with these words in their name or description
  localllm catalog --json     for programs; sizes in bytes

"memory" is what a load takes on a processor: weights, a KV cache in F16 for 8,192 tokens, and the buffers it computes
in. "fits" compares that with the memory that is free now, GPUs included. `localllm pull` fetches what stands in the
first column; `localllm search` finds what is not here. A narrow terminal shows fewer columns.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `catalog` command."""
    parser = commands.add_parser(
        "catalog",
        help="well-known models and the memory that each needs",
        description="List well-known models with their licences and the memory that each quantization needs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="only models with these words")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Print the list; an empty one is no error."""
    from localllm.library.catalog import load_catalog
    from localllm.library.inventory import free_memory

    words = [word.casefold() for word in args.words]
    found = [
        (entry, file)
        for entry in load_catalog()
        for file in entry.files
        if all(word in f"{entry.name}:{file.quantization} {entry.about}".casefold() for word in words)
    ]
    free = free_memory()
    if args.json:
        print(json.dumps({"models": [_as_json(entry, file, free) for entry, file in found], "free": free}))
    elif not found:
        print(f"the catalogue has no model with {' '.join(args.words)!r}: `localllm search` asks the hub")
    else:
        _print_table(found, free)
    return 0


def _name(entry: Entry, file: File) -> str:
    """What `pull` and `run` call it."""
    return entry.name if file is entry.files[0] else f"{entry.name}:{file.quantization}"


def _as_json(entry: Entry, file: File, free: int) -> dict[str, Any]:
    return {
        "name": _name(entry, file),
        "repo": entry.repo,
        "files": list(file.parts),
        "quantization": file.quantization,
        "parameters": entry.parameters,
        "context": entry.context,
        "licence": entry.licence,
        "bytes": file.size or None,
        "weights": file.weights,
        "memory": file.memory,
        "fits": file.memory <= free,
        "sha256": file.sha256 or None,
        "about": entry.about,
    }


def _print_table(found: list[tuple[Entry, File]], free: int) -> None:
    rows = [("name", "type", "download", "memory", "fits", "context", "licence", "")]
    rows += [
        (
            _name(entry, file),
            file.quantization,
            table.size(file.about_bytes),
            table.size(file.memory),
            "yes" if file.memory <= free else "no",
            f"{entry.context:,}",
            entry.licence,
            entry.about if file is entry.files[0] else "",
        )
        for entry, file in found
    ]
    for line in table.fitting(rows, right={2, 3, 5}, spare=(5, 1), cut=True):
        print(line)
