"""What each `/` command does in `chat --plain`.

Each is a few lines over the conversation and the store. Knows nothing of how commands are written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localllm import paths
from localllm.chat import attachments, commands, cuts, naming, outline, settings, transfer
from localllm.chat.conversation import Node
from localllm.chat.rows import ChatEntry
from localllm.counts import counted
from localllm.errors import BadCommand

if TYPE_CHECKING:
    from localllm.cli.plain import PlainChat

LISTED = 20
"""Chats that `/chats` lists: a screen reader reads all of them."""


class Orders:
    """The commands, over the chat that they are for."""

    def __init__(self, chat: PlainChat) -> None:
        self._chat = chat
        self._deeds: dict[str, Callable[[str], None]] = {
            "new": lambda _: self._new(),
            "chats": self._chats,
            "open": self._open,
            "rename": self._rename,
            "pin": lambda _: self._pin(),
            "delete": lambda _: self._delete(),
            "restore": lambda _: self._restore(),
            "model": self._model,
            "find": self._find,
            "system": self._system,
            "set": self._set,
            "attach": self._attach,
            "retry": lambda _: self._retry(),
            "continue": lambda _: self._continue(),
            "undo": lambda _: self._undo(),
            "edit": self._edit,
            "all": lambda _: self._send_all(),
            "fork": lambda _: self._fork(),
            "branch": self._branch,
            "save": self._save,
            "copy": lambda _: self._copy(),
            "stats": lambda _: self._stats(),
            "help": self._help,
        }

    def carry_out(self, call: commands.Call) -> bool:
        """Do what the command says. Whether the chat goes on.

        Raises:
            LocalLLMError: it cannot be done, for this reason.
        """
        if call.command.name == "quit":
            return False
        self._deeds[call.command.name](call.argument)
        return True

    def _entry(self) -> ChatEntry:
        """This chat as it is on disk."""
        here = self._chat.conversation.id
        entry = next((entry for entry in self._chat.store.chats() if entry.id == here), None)
        if entry is None:
            raise BadCommand("This chat has no messages yet, so it is not kept.", hint="Say something first.")
        return entry

    def _new(self) -> None:
        self._chat.open(None)
        self._chat.tell("A new chat.")

    def _chats(self, words: str) -> None:
        chats = self._chat.store.chats()
        if words:
            hits = {hit.chat for hit in self._chat.store.find(words)}
            chats = [chat for chat in chats if chat.id in hits]
        for chat in chats[:LISTED]:
            here = " (this one)" if chat.id == self._chat.conversation.id else ""
            self._chat.tell(f"{chat.id[: naming.SHORT_ID]}  {chat.title}{', pinned' if chat.pinned else ''}{here}")
        if len(chats) > LISTED:
            self._chat.tell(f"and {len(chats) - LISTED} more: /chats WORDS finds them")
        if not chats:
            self._chat.tell("No chat holds all of these words." if words else "There are no chats yet.")

    def _open(self, name: str) -> None:
        store = self._chat.store
        self._chat.open(store.load(naming.chat_named(name, store.chats()).id))

    def _rename(self, title: str) -> None:
        entry = self._entry()
        self._chat.store.rename(entry.id, title)
        title = self._entry().title
        self._chat.conversation.given_title = title
        self._chat.tell(f"Title: {title}")

    def _pin(self) -> None:
        entry = self._entry()
        self._chat.store.pin(entry.id, not entry.pinned)
        self._chat.conversation.pinned = not entry.pinned
        self._chat.tell("No longer pinned." if entry.pinned else "Pinned.")

    def _delete(self) -> None:
        entry = self._entry()
        self._chat.store.delete(entry.id)
        self._chat.open(None)
        self._chat.tell(f"Deleted: {entry.title}. /restore brings it back. This is a new chat.")

    def _restore(self) -> None:
        deleted = self._chat.store.deleted()
        if not deleted:
            raise BadCommand("No chat was deleted.")
        self._chat.store.restore(deleted[0].id)
        self._chat.open(self._chat.store.load(deleted[0].id))

    def _model(self, name: str) -> None:
        loader = self._chat.loader
        if name:
            from dataclasses import replace

            from localllm import library

            loader.start(replace(loader.wanted, path=library.resolve(name)))
            self._keep(self._chat.conversation.settings | {settings.MODEL: name})
        loaded = loader.model.info if loader.model is not None else None
        ready = f"{loaded.name} {loaded.quantization}, context {loaded.n_ctx:,} tokens" if loaded else ""
        self._chat.tell(ready or f"{loader.wanted.path.name} is loading.")

    def _find(self, text: str) -> None:
        found = list(outline.found(self._chat.conversation, text))
        for line in found:
            self._chat.tell(line)
        if not found:
            self._chat.tell("No message of this chat holds this. /chats WORDS looks in all of them.")

    def _system(self, text: str) -> None:
        conversation = self._chat.conversation
        if text:
            conversation.system = "" if text == settings.DEFAULT else text
            self._chat.store.set_system(conversation.id, conversation.system)
        self._chat.tell(
            f"System prompt: {conversation.system}" if conversation.system else "There is no system prompt."
        )

    def _set(self, order: str) -> None:
        conversation = self._chat.conversation
        if order:
            self._keep(settings.changed(conversation.settings, order))
        self._chat.tell(self._chat.dialogue.described() or "Everything is as the model recommends.")

    def _send_all(self) -> None:
        told = cuts.send_again(self._chat.conversation)
        self._keep(self._chat.conversation.settings)
        self._chat.tell(told)

    def _keep(self, values: dict[str, object]) -> None:
        conversation = self._chat.conversation
        conversation.settings = values
        self._chat.store.set_settings(conversation.id, values)

    def _attach(self, name: str) -> None:
        file = attachments.read(Path(name.strip("\"'")))
        self._chat.pending.append(file)
        self._chat.tell(f"{file.name} goes with the next message, {len(file.text):,} characters.")

    def _retry(self) -> None:
        if not self._chat.dialogue.can_answer_again():
            raise BadCommand("There is no question to answer again.")
        self._chat.answer(self._chat.dialogue.answer_again)

    def _continue(self) -> None:
        if not self._chat.dialogue.can_go_on():
            raise BadCommand("The last reply did not end early.", hint="/retry makes another one.")
        self._chat.answer(self._chat.dialogue.go_on)

    def _undo(self) -> None:
        conversation = self._chat.conversation
        question = conversation.undo()
        if question is None:
            raise BadCommand("There is no question to take back.")
        self._chat.store.show(conversation.id, conversation.leaf)
        self._chat.tell(f"Taken back: {attachments.summary(question.text)}")

    def _edit(self, text: str) -> None:
        question = self._chat.conversation.question()
        if question is None:
            raise BadCommand("There is no question to edit.")
        if not text:
            self._chat.tell(attachments.summary(question.text))
            raise BadCommand("The new words are missing.", hint="/edit TEXT asks TEXT instead; the old one is kept.")
        files, _ = attachments.split(question.text)
        message = self._chat.message(text, files)
        self._chat.answer(lambda: self._chat.dialogue.ask_instead(question.id, message))

    def _fork(self) -> None:
        fork = self._chat.conversation.fork()
        if not fork.nodes:
            raise BadCommand("There is nothing to fork yet.")
        self._chat.store.add_whole(fork)
        self._chat.dialogue.open(fork)
        self._chat.tell(f"A new chat that begins as this one: {fork.id[: naming.SHORT_ID]}")

    def _branch(self, number: str) -> None:
        conversation = self._chat.conversation
        if not number:
            for line in outline.versions(conversation):
                self._chat.tell(line)
            return
        conversation.select(outline.version(conversation, number).id)
        self._chat.store.show(conversation.id, conversation.leaf)
        self._chat.open(conversation)

    def _save(self, name: str) -> None:
        path = paths.expanded(name)
        transfer.export([self._chat.conversation], path, transfer.format_of(path))
        self._chat.tell(f"{path}: {counted(len(self._chat.conversation.path()), 'message')}")

    def _copy(self) -> None:
        last = self._last_reply()
        if self._chat.interactive and _to_clipboard(last.text):
            self._chat.tell("Copied.")
        else:
            self._chat.say(last.text, "\n")

    def _last_reply(self) -> Node:
        last = next((node for node in reversed(self._chat.conversation.path()) if node.role == "assistant"), None)
        if last is None:
            raise BadCommand("There is no reply yet.")
        return last

    def _stats(self) -> None:
        stats = self._last_reply().stats
        model = self._chat.loader.model
        if stats is None:
            self._chat.tell("The last reply was cut off before it was counted.")
        else:
            self._chat.tell(
                f"prompt {counted(stats.prompt_tokens, 'token')}, "
                f"{stats.cached_tokens:,} of them reused from the KV cache\n"
                f"reply {counted(stats.completion_tokens, 'token')}, {stats.decode_tps:.1f} per second\n"
                f"first token after {stats.ttft_s:.2f} s"
            )
        if model is not None:
            self._chat.tell(f"context {model.context_used():,} of {model.info.n_ctx:,} tokens")

    def _help(self, word: str) -> None:
        for command in commands.about(word, plain=True):
            self._chat.tell(f"{command.usage}: {command.meaning}")
        if word:
            return
        self._chat.tell(
            'A line of """ begins a message of several lines, and another ends it. @path puts a file into a message.\n'
            "// begins a message that begins with a slash. Ctrl-C stops a reply and keeps it; Ctrl-D ends."
            + (" Tab completes commands and paths." if self._chat.interactive else "")
        )


def _to_clipboard(text: str) -> bool:
    """Give the text to the clipboard of this desktop. Whether there is one, and it took it."""
    from localllm.tui import clipboard

    command = clipboard.native_command()
    return command is not None and clipboard.copy(command, text)
