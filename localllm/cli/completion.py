"""`localllm completion SHELL`: prints a completion script, made from the parser itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from localllm.errors import MissingPackage

_FILES = ("FILE", "MODEL", "SOURCE")
"""What arguments are called that may be a file; there is more than files that a model can be named by."""

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

    parser = build_parser()
    _complete_files(parser, shtab.FILE)
    print(shtab.complete(parser, args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, files: object) -> None:
    """Let the shell offer files where an argument is one, or may be."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, files)
        elif action.type is Path or action.metavar in _FILES:
            action.complete = files  # type: ignore[attr-defined]
