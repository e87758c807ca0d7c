"""`localllm completion SHELL`: prints a completion script, made from the parser itself."""

from __future__ import annotations

import argparse

from localllm.errors import MissingPackage

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

    print(shtab.complete(build_parser(), args.shell))
    return 0
