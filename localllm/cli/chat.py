"""`localllm chat [MODEL]`, and `localllm` alone: the terminal app."""

from __future__ import annotations

import argparse
import gc
import importlib.util
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from localllm.cli import options, sampling_flags, values
from localllm.errors import BadSettings, LocalLLMError, MissingPackage, ModelNotFound

if TYPE_CHECKING:
    from localllm.chat.conversation import Conversation
    from localllm.chat.store import Store
    from localllm.runtime.options import Options
    from localllm.runtime.responder import Responder
    from localllm.runtime.sampling import Sampling
    from localllm.tui.loader import Wanted

EPILOG = """examples:
  localllm                                  the default model
  localllm chat model.gguf --ctx 8192       a file, with a context of 8192 tokens
  localllm chat --system "Answer in verse." with a system prompt for new chats
  localllm chat --continue                  go on with the latest chat and the model it used; --chat NAME another
  localllm chat --plain                     line by line, for screen readers and dumb terminals
  localllm chat --plain < questions.txt     each line is a message or a / command; replies go to stdout
  localllm chat --max-tokens 500            no reply longer than that; /continue or Ctrl+G goes on with one

Chats are kept on this machine and listed when the app opens. F1 shows all keys, Ctrl+Q quits.
In a pipe a wrong / command is told, the lines behind it count, and the exit code is 1; any other error ends it.
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
    parser.add_argument(
        "--max-tokens",
        type=values.whole,
        default=0,
        metavar="N",
        help="at most N tokens a reply (default: until it ends)",
    )
    parser.add_argument("--plain", action="store_true", help="line by line: no colours, no full screen")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--chat", metavar="CHAT", help="go on with a chat, by the beginning of its id or title")
    which.add_argument("--continue", action="store_true", dest="go_on", help="go on with the latest chat")
    sampling_flags.add(parser)
    options.add_engine_flags(parser, kv_disk="2GiB")
    parser.set_defaults(handle=handle, usage_error=parser.error)


def handle(args: argparse.Namespace) -> int:
    """Open the app, or chat line by line. What can be known to be wrong is said before the screen changes."""
    sampling = sampling_flags.sampling(args)
    plain = args.plain or os.environ.get("TERM") == "dumb"
    if not plain:
        _check_terminal()
        _check_packages()
    from localllm.chat.expiry import open_chats
    from localllm.native import rpc

    store = open_chats()
    try:
        conversation = _conversation(args, store)
        usual = options.engine_options(args)
        wanted = _wanted(args, conversation, usual)
        for worker in args.worker:
            rpc.ask(worker)
        if plain:
            return _plain(args, wanted, store, conversation, sampling)
        return _app(args, wanted, usual, store, conversation, sampling)
    finally:
        store.close()


def _conversation(args: argparse.Namespace, store: Store) -> Conversation | None:
    """The chat to go on with; None for a new one."""
    from localllm.chat.naming import chat_named
    from localllm.errors import BadChat

    chats = store.chats()
    if args.go_on and not chats:
        raise BadChat("There is no chat to go on with yet.", hint="`localllm chat` begins one.")
    if args.go_on:
        return store.load(max(chats, key=lambda chat: chat.updated).id)
    return store.load(chat_named(args.chat, chats).id) if args.chat else None


def _wanted(args: argparse.Namespace, conversation: Conversation | None, usual: Options) -> Wanted:
    """The model that is named, else the chat's own, else the default; loaded as flags say, else as the chat was.

    A chat whose model is not on this machine any more goes on with the default; the chat says so.
    """
    from localllm import library
    from localllm.tui.loader import Wanted
    from localllm.tui.own_model import find_own

    if conversation is None:
        return Wanted(library.resolve(args.model), usual)
    _take_flags(args, conversation, usual)
    try:
        return find_own(conversation.settings, usual, None)
    except (ModelNotFound, BadSettings):
        if args.model is not None:
            raise
        return Wanted(library.resolve(None), usual)


_FLAGS = {"n_ctx": "ctx"}
"""The flags that are not called as the fields of `Options` are."""


def _take_flags(args: argparse.Namespace, conversation: Conversation, usual: Options) -> None:
    """What the person says now goes before what the chat was used with."""
    from localllm.chat.settings import ENGINE, ENGINE_NAMES, MODEL, engine_of

    if args.model is not None:
        conversation.settings[MODEL] = args.model
    given = [name for name in ENGINE_NAMES if _FLAGS.get(name, name) not in args.left_out]
    if given:
        own = {name: value for name, value in conversation.settings.get(ENGINE, {}).items() if name not in given}
        conversation.settings[ENGINE] = {**own, **engine_of(usual, given)}


def _app(
    args: argparse.Namespace,
    wanted: Wanted,
    usual: Options,
    store: Store,
    conversation: Conversation | None,
    sampling: Sampling,
) -> int:
    # Nothing that is imported here is ever free again; the app enables the collection when its first picture is drawn.
    gc.disable()
    try:
        from localllm import settings
        from localllm.tui.app import ChatApp
        from localllm.tui.pace import GATHER_S

        looks = settings.load().settings
        panes = {"chats": looks.chats_pane, "memory": looks.memory_pane}
        app = ChatApp(
            partial(open_model, gather_s=GATHER_S),
            wanted,
            store,
            sampling=sampling,
            system=args.system,
            usual=usual,
            conversation=conversation,
            theme=looks.theme,
            animation=looks.animation,
            titles=looks.titles == "model",
            max_tokens=args.max_tokens,
            panes={name: shown == "shown" for name, shown in panes.items() if shown is not None},
        )
        try:
            app.run()
        finally:
            app.close()
        return app.return_code or 0
    finally:
        gc.enable()


def _plain(
    args: argparse.Namespace, wanted: Wanted, store: Store, conversation: Conversation | None, sampling: Sampling
) -> int:
    from localllm.cli.interrupt import stopped_by_signals
    from localllm.cli.plain import PlainChat
    from localllm.cli.plain_lines import Lines

    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    chat = PlainChat(
        open_model, wanted, store, sampling, args.system, max_tokens=args.max_tokens, interactive=interactive
    )
    with stopped_by_signals():
        try:
            if conversation is not None:
                chat.open(conversation)
            return chat.run(Lines(sys.stdin, interactive=interactive))
        finally:
            chat.close()


def open_model(
    wanted: Wanted,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool] | None = None,
    *,
    gather_s: float = 0.0,
) -> Responder:
    """Load a model in a process of its own; when `cancelled` returns True the load is given up.

    Pieces of its replies that come within `gather_s` seconds come as one.

    Raises:
        UnsupportedModel: it writes no text; and as `ModelProcess.load`.
    """
    from localllm.library import as_recommended
    from localllm.runtime.process import ModelProcess
    from localllm.runtime.responder import only_reads

    recommended = as_recommended(wanted.path, wanted.options)
    model = ModelProcess.load(wanted.path, recommended, progress=progress, cancelled=cancelled, gather_s=gather_s)
    if not model.info.writes:
        model.close()
        raise only_reads(model.info)
    return model


def _check_terminal() -> None:
    # Textual reads the keyboard from stdin and draws on stderr; a stdout that is not a terminal is meant for a program.
    for name, stream in (("stdin", sys.stdin), ("stdout", sys.stdout), ("stderr", sys.stderr)):
        if not stream.isatty():
            raise LocalLLMError(
                f"The chat needs a terminal, and {name} is none.",
                hint='`localllm run "a prompt"` answers on stdout, for pipes and scripts; '
                "`localllm chat --plain` chats without a terminal.",
            )


def _check_packages() -> None:
    for package in ("textual", "markdown_it", "pygments"):
        if importlib.util.find_spec(package) is None:
            raise MissingPackage(
                f"The chat needs the package {package.replace('_', '-')}, which is not installed.",
                hint='Run `pip install "localllm[chat]"`. `localllm run` works without it.',
            )
