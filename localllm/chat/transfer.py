"""Chats into files and out of them, between the store and the formats. Nothing that is there is ever written over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from localllm import small_files
from localllm.chat import json_file, markdown_file
from localllm.chat.conversation import CUTS, Conversation, new_id
from localllm.chat.store import Store
from localllm.errors import BadChat, BadOutput

Format = Literal["markdown", "json"]


@dataclass(frozen=True)
class Imported:
    """A chat that was read from a file: `id` is the one it has here, `is_new` is False where it was there already."""

    id: str
    title: str
    messages: int
    is_new: bool


def format_of(path: Path) -> Format:
    """The format that a file's name asks for: JSON for `.json`, else Markdown."""
    return "json" if path.suffix.casefold() == ".json" else "markdown"


def written(chats: Sequence[Conversation], form: Format) -> str:
    """The chats as the text of a file; Markdown holds one chat, and of it the path that is shown.

    Raises:
        BadChat: there are several for Markdown.
    """
    if form == "json":
        return json.dumps(json_file.document(chats), ensure_ascii=False, indent=1) + "\n"
    if len(chats) != 1:
        raise BadChat(f"Markdown holds one chat, not {len(chats)}.", hint="JSON holds several: --format json.")
    return markdown_file.write(chats[0])


def export(chats: Sequence[Conversation], path: Path, form: Format) -> None:
    """Write the chats to a file that is not there yet.

    Raises:
        BadOutput: it is there, or cannot be written; no half of it is left.
        BadChat: no message is in any of them; and see `written`.
    """
    if not any(chat.nodes for chat in chats):
        raise BadChat("There is no message to save yet.", hint="Nothing was written.")
    text = written(chats, form)
    try:
        path.open("x").close()  # the name is ours from now on
    except FileExistsError:
        raise BadOutput(f"{path} exists already.", hint="Name another file. Nothing was written.") from None
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        small_files.replace(path, text.encode())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _not_written(path, error) from error
        raise


def _not_written(path: Path, error: OSError) -> BadOutput:
    return BadOutput(f"{path} cannot be written: {error.strerror}.", hint="Nothing was written.")


def import_chats(chats: Sequence[Conversation], store: Store) -> list[Imported]:
    """Add chats that were read to the store. One that is there with the same content is left as it is, and one whose id
    is taken by another gets a new one.

    Raises:
        BadStore: see `Store`; what was imported before stays.
    """
    return [_add(chat, store) for chat in chats]


def read_file(path: Path) -> list[Conversation]:
    """The chats of a file, whatever its name is.

    Raises:
        BadChat: it cannot be read, or holds no chats.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadChat(f"{path} is no text in UTF-8: byte {error.start}.", hint="Nothing was imported.") from None
    except OSError as error:
        raise BadChat(f"{path} cannot be read: {error.strerror}.", hint="Nothing was imported.") from None
    try:
        return json_file.read(text) if text.lstrip()[:1] in ("{", "[") else [markdown_file.read(text)]
    except BadChat as error:
        raise BadChat(f"{path} holds no chat that can be read. {error.message}", hint=error.hint) from None


def _add(chat: Conversation, store: Store) -> Imported:
    is_new = True
    if store.holds(chat.id, chat.nodes):
        if _is_there(chat, store):
            is_new = False
        else:
            chat = _with_new_ids(chat)
    if is_new:
        store.add_whole(chat, updated=max((node.created for node in chat.nodes.values()), default=chat.created))
    return Imported(chat.id, chat.title, len(chat.nodes), is_new)


def _is_there(chat: Conversation, store: Store) -> bool:
    """Whether the list of chats holds this very chat; which of its messages is shown does not count."""
    if chat.id not in {entry.id for entry in store.chats()}:
        return False
    return replace(store.load(chat.id), leaf=chat.leaf) == chat


def _with_new_ids(chat: Conversation) -> Conversation:
    ids = {old: new_id() for old in chat.nodes}
    nodes = {
        ids[old]: replace(node, id=ids[old], parent=ids[node.parent] if node.parent else None)
        for old, node in chat.nodes.items()
    }
    cuts = {ids[old]: summary for old, summary in chat.cuts.items() if old in ids}
    settings = {**chat.settings, CUTS: cuts} if chat.cuts else chat.settings
    return replace(chat, id=new_id(), leaf=ids[chat.leaf] if chat.leaf else None, nodes=nodes, settings=settings)
