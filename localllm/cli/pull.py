"""`localllm pull NAME`: a model comes to this machine, from the hub or an address."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from localllm.cli import options
from localllm.cli.bar import Bar
from localllm.cli.interrupt import stopped_by_sigterm
from localllm.cli.sources import note

if TYPE_CHECKING:
    from localllm.library.pulling import Pulled

EPILOG = """examples:
  localllm pull qwen3:0.6b                              a model of the catalogue
  localllm pull org/name-GGUF:Q8_0                      a model of the hub, in this quantization
  localllm pull org/name-GGUF                           in Q4_K_M, or the only one there is; else it lists the choices
  localllm pull org/name-GGUF/folder/model.gguf         one file of a repo
  localllm pull org/name --type Q4_K_M                  a checkpoint: it is converted while it is downloaded
  localllm pull https://example.org/model.gguf          a file from anywhere
  localllm search qwen3                                 what there is to pull

What comes from the hub goes to its cache (HF_HOME), where other programs find it too; a file from elsewhere and a model
that is converted go to the models folder. What is on this machine already is not downloaded again. Stopped or killed at
any time, the same command goes on with what has arrived. A file gets its name when its hash is the one that the hub
tells. HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE count as they do for the hub's own programs; `hf auth login` opens
private and gated repos.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `pull` command."""
    parser = commands.add_parser(
        "pull",
        help="download a model, or convert one while it is downloaded",
        description="Bring a model to this machine: from the catalogue, the Hugging Face hub, or an address.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="name of the catalogue, org/repo[:QUANTIZATION], or an address")
    parser.add_argument(
        "--type", metavar="T", help="convert the checkpoint in the repo to this quantization type (default: Q4_K_M)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Look it up, fetch it, and say where it is."""
    from localllm.library import pulling

    start = time.monotonic()
    found = pulling.look_up(args.name, type=args.type, remark=note)
    if found.converts:
        options.route_log(args)
    print(found.about, file=sys.stderr)
    with stopped_by_sigterm(), Bar(None, " weights" if found.converts else "B") as bar:
        try:
            pulled = found.fetch(bar.update)
        except (KeyboardInterrupt, SystemExit):
            note("the same command goes on with what has arrived")
            raise
    seconds = time.monotonic() - start
    if pulled.received:
        print(f"{pulled.received / 1e6:,.1f} MB downloaded in {seconds:.1f} s", file=sys.stderr)
    print(json.dumps(_document(args.name, pulled, seconds)) if args.json else pulled.path)
    return 0


def _document(name: str, pulled: Pulled, seconds: float) -> dict[str, Any]:
    files = [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": pulled.sha256.get(path)} for path in pulled.files
    ]
    return {
        "name": name,
        "path": str(pulled.path),
        "bytes": pulled.size,
        "downloaded": pulled.received,
        "seconds": round(seconds, 3),
        "origin": pulled.origin or None,
        "files": files,
    }
