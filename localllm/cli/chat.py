"""`localllm chat [MODEL]`, and `localllm` alone: the terminal app."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from localllm.cli import options, sampling_flags
from localllm.errors import LocalLLMError, MissingPackage

if TYPE_CHECKING:
    from localllm.runtime.responder import Responder
    from localllm.tui.loader import Wanted

EPILOG = """examples:
  localllm                                  the default model
  localllm chat model.gguf --ctx 8192       a file, with a context of 8192 tokens
  localllm chat --system "Answer in verse." with a system prompt for new chats

Chats are kept on this machine and listed when the app opens. F1 shows all keys, Ctrl+Q quits.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `chat` command."""
    parser = commands.add_parser(
        "chat",
        help="chat in the terminal",
        description="Chat with a model in a terminal app.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="path, catalogue name or model on this machine")
    parser.add_argument("--system", metavar="TEXT", default="", help="system prompt of new chats")
    sampling_flags.add(parser)
    options.add_engine_flags(parser, kv_disk="2GiB")
    parser.set_defaults(handle=handle, usage_error=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Open the app. What can be known to be wrong is said before the screen changes."""
    sampling = sampling_flags.sampling(args)
    _check_terminal()
    _check_packages()
    from localllm import library, paths, settings
    from localllm.chat.store import Store
    from localllm.native import rpc
    from localllm.tui.app import ChatApp
    from localllm.tui.loader import Wanted

    looks = settings.load().settings
    path = library.resolve(args.model)
    for worker in args.worker:
        rpc.ask(worker)
    store = Store.open(paths.chats_file())
    wanted = Wanted(path, options.engine_options(args))
    app = ChatApp(
        open_model,
        wanted,
        store,
        sampling=sampling,
        system=args.system,
        theme=looks.theme,
        animation=looks.animation,
    )
    try:
        app.run()
    finally:
        app.close()
        store.close()
    return app.return_code or 0


def open_model(wanted: Wanted, progress: Callable[[float], None]) -> Responder:
    """Load a model in a process of its own."""
    from localllm.runtime.process import ModelProcess

    return ModelProcess.load(wanted.path, wanted.options, progress=progress)


def _check_terminal() -> None:
    # Textual reads the keyboard from stdin and draws on stderr; a stdout that is not a terminal is meant for a program.
    for name, stream in (("stdin", sys.stdin), ("stdout", sys.stdout), ("stderr", sys.stderr)):
        if stream is None or not stream.isatty():
            raise LocalLLMError(
                f"The chat needs a terminal, and {name} is none.",
                hint='`localllm run "a prompt"` answers on stdout, for pipes and scripts.',
            )


def _check_packages() -> None:
    for package in ("textual", "markdown_it", "pygments"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(
                f"The chat needs the package {package.replace('_', '-')}, which is not installed.",
                hint='Run `pip install "localllm[chat]"`. `localllm run` works without it.',
            )
