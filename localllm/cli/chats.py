"""`localllm chats`: the chats on this machine, listed, shown, searched, exported and imported, without the app."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localllm.counts import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from localllm.chat.rows import ChatEntry
from localllm.chat.store import Store

EPILOG = """examples:
  localllm chats list                          the latest first
  localllm chats search lighthouse keeper      chats whose title or text holds both words
  localllm chats show 3f2a                     by the beginning of its id, or of its title
  localllm chats show "A chat" --branches      every version of every message
  localllm chats export 3f2a --outfile talk.md Markdown, what is shown
  localllm chats export --all --outfile all.json
                                               JSON, with all branches: nothing is lost
  localllm chats import all.json               adds what is not there; nothing is written over
  localllm chats rm 3f2a                       `localllm chats restore 3f2a` brings it back, for 30 days

Go on with one in the terminal: `localllm chat --chat 3f2a`.
"""


def register(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `chats` command and its own commands."""
    parser = commands.add_parser(
        "chats",
        help="list, show, search, export and import chats",
        description="The chats on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="COMMAND", title="commands", help="what to do", required=True)

    listing = _verb(verbs, "list", "list the chats, the latest first", _list)
    listing.add_argument("--deleted", action="store_true", help="those that can be restored")

    search = _verb(verbs, "search", "find chats by words of their titles and messages", _search)
    search.add_argument(
        "words", nargs="+", metavar="WORD", help='all must be there; "two words" in quotes stay together'
    )

    show = _verb(verbs, "show", "print a chat", _show)
    _name(show)
    show.add_argument("--branches", action="store_true", help="every version of every message, not only what is shown")

    export = _verb(verbs, "export", "write chats to a file that is not there yet, or to stdout", _export)
    export.add_argument("chats", nargs="*", metavar="CHAT", help="the beginning of an id or a title")
    export.add_argument("--all", action="store_true", help="all that are not deleted; as JSON")
    export.add_argument("--outfile", type=Path, metavar="FILE", help="(default: stdout)")
    export.add_argument(
        "--format",
        choices=("markdown", "json"),
        help="Markdown is what is shown, for people; JSON holds all branches, times and costs "
        "(default: JSON for a FILE that ends in .json and for several chats, else Markdown)",
    )

    importing = _verb(verbs, "import", "add the chats of files; nothing is written over", _import)
    importing.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON or Markdown, as `export` writes")

    rename = _verb(verbs, "rename", "give a chat a title", _rename)
    _name(rename)
    rename.add_argument("title", nargs="?", default="", metavar="TITLE", help="(default: automatic again)")

    pin = _verb(verbs, "pin", "keep a chat at the top of the list", _pin)
    _name(pin)
    pin.add_argument("--off", action="store_true", help="no longer")

    rm = _verb(verbs, "rm", "delete chats; they can be restored for 30 days", _rm)
    rm.add_argument("chats", nargs="*", metavar="CHAT", help="the beginning of an id or a title")
    erased = "erase them at once and for good, deleted ones, too, with all KV snapshots, which hold text; without CHAT"
    rm.add_argument("--now", action="store_true", help=f"{erased}, only what is left of chats that were erased before")

    restore = _verb(verbs, "restore", "bring back a chat that was deleted", _restore)
    _name(restore)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    do: Callable[[argparse.Namespace, Store], dict[str, Any]],
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(handle=handle, do=do, usage_error=parser.error)
    return parser


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chat", metavar="CHAT", help="the beginning of its id or title")


def handle(args: argparse.Namespace) -> int:
    """Open the store, do what was asked, and print what it found."""
    from localllm.chat.expiry import open_chats

    store = open_chats()
    try:
        found = args.do(args, store)
    finally:
        store.close()
    if args.json:
        import json

        print(json.dumps(found))
    return 0


def _say(args: argparse.Namespace, text: str) -> None:
    """Print for people; nothing of what a model wrote may reach a terminal as a command to it."""
    import sys

    from localllm.chat.printable import printable

    if not args.json:
        print(printable(text) if sys.stdout.isatty() else text)


def _named(name: str, chats: list[ChatEntry]) -> ChatEntry:
    from localllm.chat.naming import chat_named

    return chat_named(name, chats)


def _list(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    from dataclasses import asdict

    chats = store.deleted() if args.deleted else store.chats()
    for chat in chats:
        _say(args, _line(chat))
    if not chats:
        _say(args, "No chat can be restored." if args.deleted else "There are no chats yet. `localllm` begins one.")
    return {"chats": [asdict(chat) for chat in chats]}


def _line(chat: ChatEntry) -> str:
    import time

    from localllm.chat import moments
    from localllm.chat.naming import SHORT_ID

    when = time.strftime("%Y-%m-%d %H:%M", moments.local(chat.updated))
    pin = "*" if chat.pinned else " "
    return f"{chat.id[:SHORT_ID]} {pin} {when}  {chat.messages:>4}  {chat.title}"


def _search(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    from dataclasses import asdict

    entries = {chat.id: chat for chat in store.chats()}
    # The shell took the quotes away that keep words together.
    found = store.find(" ".join(f'"{word}"' if " " in word else word for word in args.words))
    # Another app may have made a chat since they were listed.
    hits = [hit for hit in found if hit.chat in entries]
    for hit in hits:
        _say(args, _line(entries[hit.chat]) + (f"\n{' ' * 12}{hit.excerpt}" if hit.excerpt else ""))
    if not hits:
        _say(args, "No chat holds all of these words.")
    return {"chats": [asdict(entries[hit.chat]) | {"message": hit.message, "excerpt": hit.excerpt} for hit in hits]}


def _show(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    from localllm.chat import json_file, outline

    chat = store.load(_named(args.chat, store.chats()).id)
    for line in outline.branches(chat) if args.branches else outline.path(chat):
        _say(args, line)
    return json_file.chat_values(chat)


def _export(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    import io
    import sys

    from localllm.chat import markdown_file, transfer

    if bool(args.chats) == args.all:
        args.usage_error("name the chats to export, or --all of them")
    entries = store.chats()
    chosen = entries if args.all else _chosen(args, entries)
    chats = [store.load(entry.id) for entry in dict.fromkeys(chosen)]
    several = args.all or len(chats) > 1
    form = args.format or ("json" if several else transfer.format_of(args.outfile or Path("-")))
    lost = sum(map(markdown_file.lost, chats)) if form == "markdown" else 0
    if args.outfile is None:
        if args.json:
            args.usage_error("--json tells what was written to a file: give --outfile; --format json writes JSON")
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as a file would be, whatever a terminal here shows
        sys.stdout.write(transfer.written(chats, form))
    else:
        transfer.export(chats, args.outfile, form)
        held = sum(len(chat.nodes) for chat in chats) - lost
        _say(args, f"{args.outfile}: {counted(len(chats), 'chat')}, {counted(held, 'message')}")
    if lost:
        print(
            f"note: {counted(lost, 'message')} of other branches left out: JSON holds all (--format json).",
            file=sys.stderr,
        )
    return {"outfile": str(args.outfile), "format": form, "chats": [chat.id for chat in chats], "lost_messages": lost}


def _chosen(args: argparse.Namespace, entries: list[ChatEntry]) -> list[ChatEntry]:
    """The chats that are named. The last name may be meant as the file to write: then `--outfile` is said."""
    from localllm.errors import BadChat

    *chats, last = args.chats
    found = [_named(name, entries) for name in chats]
    try:
        return [*found, _named(last, entries)]
    except BadChat as error:
        if not chats or args.outfile is not None:
            raise
        raise BadChat(error.message, hint=f"{error.hint}\nA file to write to goes with --outfile FILE.") from None


def _import(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    from dataclasses import asdict

    from localllm.chat import transfer

    # All are read before: nothing is imported if one of them is wrong, and a pipe can be read only once.
    chats = [chat for path in args.files for chat in transfer.read_file(path)]
    found = transfer.import_chats(chats, store)
    for chat in found:
        what = counted(chat.messages, "message") if chat.is_new else "there already, left as it is"
        _say(args, f"{chat.id[:8]}  {chat.title}: {what}")
    return {"chats": [asdict(chat) for chat in found]}


def _rename(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    chat = _named(args.chat, store.chats())
    store.rename(chat.id, args.title)
    title = next(entry.title for entry in store.chats() if entry.id == chat.id)
    _say(args, f"{chat.id[:8]}  {title}")
    return {"id": chat.id, "title": title}


def _pin(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    chat = _named(args.chat, store.chats())
    store.pin(chat.id, not args.off)
    _say(args, f"{chat.id[:8]}  {chat.title}: {'no longer pinned' if args.off else 'pinned'}")
    return {"id": chat.id, "pinned": not args.off}


def _rm(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    from localllm.chat import expiry

    if not args.chats and not args.now:
        args.usage_error("name the chats to delete")
    known = store.chats() + (store.deleted() if args.now else [])
    chats = [_named(name, known) for name in args.chats]
    if args.now:
        expiry.erase(store, [chat.id for chat in chats])
    for chat in chats:
        if not args.now:
            store.delete(chat.id)
        done = "erased" if args.now else f"deleted; `localllm chats restore {chat.id[:8]}` brings it back"
        _say(args, f"{chat.id[:8]}  {chat.title}: {done}")
    return {"chats": [chat.id for chat in chats], "erased": args.now}


def _restore(args: argparse.Namespace, store: Store) -> dict[str, Any]:
    chat = _named(args.chat, store.deleted())
    store.restore(chat.id)
    _say(args, f"{chat.id[:8]}  {chat.title}: restored")
    return {"id": chat.id}
