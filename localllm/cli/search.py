"""`localllm search WORDS`: what the hub has, and how to pull it."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from localllm.cli import table, values

if TYPE_CHECKING:
    from localllm.library.search import Hit

EPILOG = """examples:
  localllm search qwen3 0.6b                  the most downloaded first
  localllm search gemma 3 gguf --limit 5
  localllm search org/name --json

Shown are repos of the Hugging Face hub with GGUF files, and with checkpoints of architectures that can be converted.
`localllm pull` fetches what stands in the last column.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `search` command."""
    parser = commands.add_parser(
        "search",
        help="find models on the Hugging Face hub",
        description="Find models on the Hugging Face hub that can be pulled.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("words", nargs="+", metavar="WORDS", help="words in the name of the repo")
    parser.add_argument("--limit", type=values.positive, default=20, metavar="N", help="most results (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Print what was found; nothing found is no error."""
    from localllm.library.search import search

    hits = search(args.words, args.limit)
    if args.json:
        models = [{**asdict(hit), "licence": hit.licence or None, "pull": hit.pull} for hit in hits]
        print(json.dumps({"words": args.words, "models": models}))
    elif not hits:
        print(f"nothing on the hub can be pulled by {' '.join(args.words)!r}: try fewer words")
    else:
        _print_table(hits)
    return 0


def _print_table(hits: list[Hit]) -> None:
    rows = [("downloads", "weights", "licence", "kind", "localllm pull …", "")]
    rows += [
        (
            f"{hit.downloads:,}",
            table.count(hit.parameters),
            (hit.licence or "?") + (", ask for access" if hit.gated else ""),
            hit.kind,
            hit.pull,
            _others(hit),
        )
        for hit in hits
    ]
    for line in table.fitting(rows, right={0}, spare=(3, 5, 1, 2), cut=True):
        print(line)


def _others(hit: Hit) -> str:
    """The quantizations that there are, where there is a choice."""
    return f"({', '.join(hit.quantizations)})" if len(hit.quantizations) > 1 else ""
