"""`localllm pull NAME`: a model comes to this machine, from the hub or an address."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from typing import TYPE_CHECKING, Any

from localllm.cli import convert_result, options, table, values
from localllm.cli.bar import Bar
from localllm.cli.interrupt import stopped_by_signals
from localllm.cli.sources import note

if TYPE_CHECKING:
    from localllm.convert.proof.verification import Verification
    from localllm.library.pulling import Pulled

EPILOG = """examples:
  localllm pull qwen3:0.6b                              a model of the catalogue
  localllm pull org/name-GGUF:Q8_0                      a model of the hub, in this quantization
  localllm pull org/name-GGUF                           in Q4_K_M, or the only one there is; else it lists the choices
  localllm pull org/name-GGUF/folder/model.gguf         one file of a repo
  localllm pull org/name --type Q4_K_M                  a checkpoint: it is converted while it is downloaded
  localllm pull https://example.org/model.gguf          a file from anywhere
  localllm pull https://example.org/model.gguf --sha256 9f86d0…   and it must have this hash
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
    parser.add_argument(
        "--sha256", type=values.sha256, metavar="HEX", help="the hash that the file at an address must have"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    options.add_log_flags(parser)
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Look it up, fetch it, and say where it is."""
    from localllm.library import pulling

    start = time.monotonic()
    found = pulling.look_up(args.name, type=args.type, sha256=args.sha256, remark=note)
    if found.converts:
        options.route_log(args)
    print(found.about, file=sys.stderr)
    try:
        with stopped_by_signals(), Bar(None, " weights" if found.converts else "B") as bar:
            pulled = found.fetch(bar.update)
    except (KeyboardInterrupt, SystemExit):
        note("the same command goes on with what has arrived")
        raise
    seconds = time.monotonic() - start
    if pulled.received:
        print(f"{pulled.received / 1e6:,.1f} MB downloaded in {seconds:.1f} s", file=sys.stderr)
    if pulled.verification is not None:
        _verified(pulled.verification)
    called = _called(pulled)
    if called is not None:
        does = "chat" if convert_result.writes(pulled.path) else "show"
        print(
            f"it is called {table.printable(called)}: localllm {does} {table.printable(shlex.quote(called))}",
            file=sys.stderr,
        )
    document = {**_document(args.name, pulled, seconds), "called": called}
    print(json.dumps(document) if args.json else pulled.path)
    return 0


def _verified(proof: Verification) -> None:
    print(f"verified: all {proof.count:,} tensors are in the file as planned", file=sys.stderr)
    if proof.tokenizer is not None:
        print(f"  tokenizer: {convert_result.tokenizer_in_words(proof.tokenizer)}", file=sys.stderr)
    convert_result.proven(proof)


def _called(pulled: Pulled) -> str | None:
    """The name by which every command finds it; None where only its path does."""
    from localllm.library.shelf import placed

    label, _ = placed(str(pulled.path))
    return None if label == str(pulled.path) else label


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
        "verification": pulled.verification and pulled.verification.document(),
    }
