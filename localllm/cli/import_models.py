"""`localllm import PATH…`: models from elsewhere on this machine get a name here, without being copied."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.cli import table

if TYPE_CHECKING:
    from localllm.library.importing import Import

EPILOG = """examples:
  localllm import ~/Downloads/model-Q4_K_M.gguf
                                          it is `model-Q4_K_M` from now on; takes no room
  localllm import ~/old-models            every model in a folder and below it
  localllm import model.gguf --name mine  under another name
  localllm import /mnt/usb/model.gguf --copy
                                          a copy, for what will not stay where it is
  localllm import llama3.2:1b --name mine a model that is here already gets a second name

What Ollama, LM Studio, llama.cpp and the hub's cache hold needs no import: `localllm list` shows it, and it runs by the
name that stands there. Without --copy and --move a file on the same disk gets a hard link, which stays when the file is
removed where it was; from another disk it is a symbolic link, which does not. Each file is checked before: what is no
model, or is cut short, is refused, and nothing is written over.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `import` command."""
    parser = commands.add_parser(
        "import",
        help="give model files from elsewhere a name here, without copying them",
        description="Give model files a name in the models folder: linked, or copied or moved there.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="MODEL", help="a GGUF file, a folder of them, or a model's name")
    parser.add_argument("--name", default="", metavar="NAME", help="the name of the one model (default: the file's)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the files")
    how.add_argument("--move", action="store_true", help="move the files")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Check everything, then import it, all or nothing."""
    from localllm.cli.bar import Bar
    from localllm.cli.interrupt import stopped_by_signals
    from localllm.errors import ModelNotFound
    from localllm.library import arriving, importing

    try:
        jobs = importing.plan_imports(args.paths, name=args.name, move=args.move)
    except ModelNotFound as error:
        if len(args.paths) != 2 or args.name or not Path(args.paths[0]).is_file():
            raise
        hint = f"If that is to be its name: localllm import {' --name '.join(map(shlex.quote, args.paths))}"
        raise ModelNotFound(error.message, hint=hint) from error
    with stopped_by_signals(), Bar(None, "B") as bar:
        if args.copy:
            made = arriving.copy(jobs, bar.update)
        elif args.move:
            made = arriving.move(jobs, bar.update)
        else:
            made = arriving.link(jobs)
    for job in jobs:
        _show(job, made)
    if args.json:
        print(json.dumps({"imported": [_document(job, made) for job in jobs]}))
    return 0


def _show(job: Import, made: dict[Path, str]) -> None:
    from localllm.gguf_file import read_parts

    how = made[job.targets[0]]
    parts = f" in {len(job.targets)} parts" if len(job.targets) > 1 else ""
    print(f"{job.name}: {how}, {table.size(job.size)}{parts}, {job.targets[0]}", file=sys.stderr)
    if not read_parts(job.targets[0])[0].get("tokenizer.chat_template"):
        print("  it has no chat template: --chat-template FILE gives it one, run --raw needs none", file=sys.stderr)
    if how == "symbolic link":
        print(f"  it ends when {job.sources[0]} does; --copy would keep it", file=sys.stderr)


def _document(job: Import, made: dict[Path, str]) -> dict[str, object]:
    return {
        "name": job.name,
        "path": str(job.targets[0]),
        "files": [str(target) for target in job.targets],
        "bytes": job.size,
        "how": made[job.targets[0]],
    }
