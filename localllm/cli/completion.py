"""`localllm completion SHELL`: prints a completion script, made from the parser itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from localllm.cli import completion_shells
from localllm.errors import MissingPackage

_FILES = ("FILE", "SOURCE")
"""What arguments are called that may be a file."""

EPILOG = """install it:
  bash   localllm completion bash > ~/.local/share/bash-completion/completions/localllm
  zsh    localllm completion zsh > ~/.zfunc/_localllm      (a folder in $fpath)
  tcsh   localllm completion tcsh > ~/.localllm.tcsh       (and source it)
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `completion` command."""
    parser = commands.add_parser(
        "completion",
        help="print a shell completion script",
        description="Print a completion script for a shell.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    parser.set_defaults(handle=handle)


def handle(args: argparse.Namespace) -> int:
    """Print the script."""
    try:
        import shtab
    except ImportError as error:
        raise MissingPackage(
            "Shell completion needs the package shtab.", hint="pip install 'localllm[completion]'"
        ) from error
    from localllm.cli.main import build_parser
    from localllm.library import load_catalog

    parser = build_parser()
    _complete(parser, shtab.FILE)
    preamble = completion_shells.preamble(entry.name for entry in load_catalog())
    print(shtab.complete(parser, args.shell, preamble=preamble))
    if args.shell == "bash":
        print(completion_shells.BASH_END)
    return 0


def _complete(parser: argparse.ArgumentParser, files: object) -> None:
    """Let the shell offer files where an argument is one, and names of models where it is one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete(command, files)
        elif "MODEL" in str(action.metavar):
            action.complete = completion_shells.MODELS  # type: ignore[attr-defined]
        elif parser.prog.endswith(" pull") and action.dest == "name":
            action.complete = completion_shells.CATALOGUE  # type: ignore[attr-defined]
        elif action.type is Path or action.metavar in _FILES:
            action.complete = files  # type: ignore[attr-defined]
