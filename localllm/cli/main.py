"""The entry point: parses the command line, runs the command, and turns errors into messages and exit codes.

Exit codes: 0 done, 1 an error from the tree, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from localllm import __version__
from localllm.cli import (
    catalog,
    chat,
    chats,
    compare,
    completion,
    config,
    convert,
    devices,
    from_settings,
    import_models,
    list_models,
    plan,
    pull,
    rm,
    run,
    search,
    show,
    streams,
    tune,
    verify,
    worker,
)
from localllm.errors import LocalLLMError

DESCRIPTION = "Convert, run and chat with local language models. Without a command: chat with the default model."

EPILOG = """examples:
  localllm                                  chat with the default model
  localllm run "Why is the sky blue?"       one answer on stdout
  localllm compare A.gguf B.gguf "Hi"       two models or quantizations side by side
  localllm pull qwen3:0.6b                  download a model; `search` finds others
  localllm list                             the models on this machine, also those of Ollama and LM Studio
  localllm convert ./my-checkpoint          a Hugging Face checkpoint becomes a Q4_K_M GGUF
  localllm verify model.gguf                is the file whole, and is it the model it was made of
  localllm plan model.gguf --ctx 8192       what it would use, in bytes, before loading
  localllm tune model.gguf                  find the fastest settings for this machine, and keep them
"""


class _Command(argparse.ArgumentParser):
    """The parser of one command. Its flags may stand anywhere, also between two arguments that may be left out."""

    _inside = False

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        """Read the arguments behind the flags, for which `argparse` calls this method again, twice."""
        if self._inside or any(isinstance(action, argparse._SubParsersAction) for action in self._actions):
            return super().parse_known_args(*args, **options)
        self._inside = True
        try:
            found, unknown = self.parse_known_intermixed_args(*args, **options)
        finally:
            self._inside = False
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End with what is wrong, and not with forty flags above it."""
        self.exit(2, f"{self.prog}: error: {message}\n  usage: `{self.prog} --help` shows all flags.\n")


class _Root(argparse.ArgumentParser):
    """The parser of all commands. A name that is none of them gets the nearest ones, not the whole list."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """`argparse` calls it with the name of the command."""
        if not isinstance(action, argparse._SubParsersAction) or value in action.choices:
            return super()._check_value(action, value)
        import difflib

        near = difflib.get_close_matches(value, action.choices, n=3)
        nearest = f"the nearest: {', '.join(near)}; " if near else ""
        raise argparse.ArgumentError(None, f"there is no command {value!r}; {nearest}`localllm --help` shows all")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line as one parser; completion scripts are made from it."""
    parser = _Root(
        prog="localllm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"localllm {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=_Command)
    for module in (chat, chats, run, compare, pull, catalog, search, list_models, show, rm, import_models):
        module.register(commands)
    for module in (convert, verify, plan, devices, tune, worker, config, completion):
        module.register(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code."""
    streams.prepare()
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = build_parser()
    args = parser.parse_args(arguments or ["chat"])
    try:
        code: int = args.handle(from_settings.fill(args))
        sys.stdout.flush()
        return code
    except LocalLLMError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of a pipe went away: not our error. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(
            f"error: {error.strerror or error}{': ' + str(error.filename) if error.filename else ''}", file=sys.stderr
        )
        return 1


def print_error(error: LocalLLMError) -> None:
    """What happened and what to do next, on stderr."""
    print(f"error: {error.message}", file=sys.stderr)
    for line in error.hint.splitlines():
        print(f"  {line}", file=sys.stderr)
