"""`localllm rm NAME`: remove a model, and say what that frees."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from localllm.cli import table

if TYPE_CHECKING:
    from localllm.library.removal import Removal

EPILOG = """examples:
  localllm rm qwen3:0.6b                 shows the files and what they free, and asks
  localllm rm org/name-GGUF:Q8_0 --yes   asks nothing
  localllm rm ./model-00001-of-00003.gguf
                                         all parts of it

In the hub's cache a file goes away in every revision of its repo, and what other files share stays. A link frees
nothing: what it points to stays. A model that a program has open is not removed, nor what belongs to Ollama (`ollama rm
NAME`), to LM Studio (--force removes its file all the same) or to a Python package (`pip uninstall`).
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `rm` command."""
    parser = commands.add_parser(
        "rm",
        help="remove models from this machine",
        description="Remove models from this machine, and say what that frees.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a name that `localllm list` shows, or a path")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--force", action="store_true", help="also a file in LM Studio's folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser.set_defaults(handle=handle, usage_error=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Say what would go, ask, and remove. Nothing is removed before all names are found."""
    from localllm.library.removal import plan_removal

    planned = [plan_removal(name, force=args.force) for name in args.models]
    removals = list({removal.model.path: removal for removal in planned}.values())
    for removal in removals:
        _show(removal)
    if not args.yes and not _confirmed(args):
        print("nothing was removed", file=sys.stderr)
        return 1
    for removal in removals:
        removal.execute()
    freed = sum(removal.frees for removal in removals)
    print(f"removed; that freed {_amount(freed)}", file=sys.stderr)
    if args.json:
        print(json.dumps({"removed": [_document(removal) for removal in removals], "freed": freed}))
    return 0


def _show(removal: Removal) -> None:
    print(f"{table.printable(removal.name)}: frees {_amount(removal.frees)}", file=sys.stderr)
    for path in removal.files:
        print(f"  {table.printable(str(path))}", file=sys.stderr)
    for remark in removal.remarks:
        print(f"  {remark}", file=sys.stderr)


def _amount(size: int) -> str:
    return table.size(size) if size else "nothing"


def _confirmed(args: argparse.Namespace) -> bool:
    if not sys.stdin.isatty():
        args.usage_error("nobody can be asked here: --yes removes without asking")
    print("Remove? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().casefold() in ("y", "yes")


def _document(removal: Removal) -> dict[str, object]:
    return {"name": removal.name, "files": [str(path) for path in removal.files], "freed": removal.frees}
