"""`localllm chat --plain`: the same chats line by line, for screen readers, dumb terminals and pipes.

Answers go to stdout, thoughts and everything else to stderr; no colour, no cursor that moves. Knows how words are
printed; how lines are read is in `plain_lines`, what a command does in `plain_orders`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence

from localllm.chat import attachments, commands
from localllm.chat.attachments import Attachment
from localllm.chat.conversation import Conversation, Node
from localllm.chat.naming import SHORT_ID
from localllm.chat.printable import check, printable
from localllm.chat.store import Store
from localllm.cli.interrupt import on_interrupt
from localllm.cli.plain_lines import Lines
from localllm.cli.plain_orders import Orders
from localllm.cli.speaker import Speaker
from localllm.counts import counted
from localllm.errors import BadCommand, BadTemplate, EngineDied, LocalLLMError
from localllm.runtime.repetition import repeats_itself
from localllm.runtime.sampling import Sampling
from localllm.runtime.thinking import parted
from localllm.tui import own_model
from localllm.tui.dialogue import Dialogue
from localllm.tui.loader import Loader, OpenModel, Wanted
from localllm.tui.own_model import Present
from localllm.tui.turn import Turn
from localllm.tui.wordless import why_wordless

POLL_S = 0.03
SLOW_S = 2.0
"""After this long without a word, it is said what the reply waits for."""

REMEMBERED_PROMPTS = 200


class PlainChat:
    """One conversation at a time, line by line. `close()` it."""

    def __init__(
        self,
        open_model: OpenModel,
        wanted: Wanted,
        store: Store,
        sampling: Sampling,
        system: str,
        *,
        max_tokens: int = 0,
        interactive: bool,
    ) -> None:
        self.store = store
        self.interactive = interactive
        self.pending: list[Attachment] = []
        self._crash: BaseException | None = None
        self._ended = threading.Event()
        self.loader = Loader(open_model, wanted, lambda: None, self._crashed)
        self.dialogue = Dialogue(
            store,
            sampling,
            self.loader.wait,
            began=lambda _: None,
            ended=lambda _: self._ended.set(),
            crashed=self._crashed,
            system=system,
            max_tokens=max_tokens,
        )
        self._orders = Orders(self)

    @property
    def conversation(self) -> Conversation:
        """The one that is open."""
        return self.dialogue.conversation

    def tell(self, text: str) -> None:
        """Print something that is no part of the conversation."""
        print(printable(text), file=sys.stderr, flush=True)

    def say(self, text: str, end: str = "") -> None:
        """Print words of the conversation."""
        sys.stdout.write(printable(text) + end)
        sys.stdout.flush()

    def run(self, lines: Lines) -> int:
        """Talk until the input ends. Returns the exit code: 130 if Ctrl-C ended it, 1 if a command was wrong in a pipe.

        Raises:
            LocalLLMError: something else went wrong, in a pipe.
        """
        failed = False
        self.loader.start()
        if self.interactive:
            self.tell(
                f"{self.loader.wanted.path.name} is loading. /help lists commands, Ctrl-C stops a reply, Ctrl-D ends."
            )
            for chat in self.store.chats():
                if chat.id in self.store.recovered and chat.id != self.conversation.id:
                    self.tell(f"A reply in “{chat.title}” was cut off: /open {chat.id[:SHORT_ID]}, then /continue.")
            lines.edit_with([attachments.split(prompt)[1] for prompt in self.store.prompts(REMEMBERED_PROMPTS)])
        for text in lines.messages():
            try:
                if not self._take(text):
                    break
            except EngineDied as error:
                self._explain(error)
                self.tell("  The model is loaded again with the next message.")
            except LocalLLMError as error:
                self._explain(error)
                failed = True
            except KeyboardInterrupt:
                if not self.interactive:
                    return 130
                self.tell("(Interrupted.)")
        return 1 if failed and not self.interactive else 0

    def _explain(self, error: LocalLLMError) -> None:
        """Say what went wrong and go on; in a pipe only after a wrong command, for nobody is there to mend the rest."""
        if not self.interactive and not isinstance(error, BadCommand):
            raise error
        self.tell(f"error: {error.message}")
        for line in error.hint.splitlines():
            self.tell(f"  {line}")

    def _take(self, text: str) -> bool:
        """Do what a line says. Whether there is more to come."""
        call = commands.parse(text, plain=True)
        if call is not None:
            return self._orders.carry_out(call)
        check(text)
        message = self.message(commands.unescaped(text))
        self.answer(lambda: self.dialogue.send(message))
        return True

    def message(self, text: str, before: Sequence[Attachment] = ()) -> str:
        """The message of what was said, the files that were attached and those it names, and those it had `before`.

        Raises:
            LocalLLMError: a file cannot be read, or see `_check_template`; the files that were attached stay so.
        """
        files = [*before, *self.pending]
        files += attachments.read_mentioned(text, {file.name for file in files})
        self._check_template()
        self.pending.clear()
        return attachments.joined(files, text)

    def _check_template(self) -> None:
        """Refuse a message that cannot be answered before it is kept; in a pipe no other model can follow, so that it
        waits for the one there is.

        Raises:
            LocalLLMError: the model does not load, in a pipe, or has no chat template.
        """
        model = self.loader.model if self.interactive else self.loader.wait(threading.Event())
        if model is not None and not model.info.has_chat_template:
            raise BadTemplate(
                f"{model.info.title} has no chat template, so there is no telling how it was trained to chat.",
                hint="Give it the template that it was trained with (--chat-template FILE), or let it go on with a "
                "text (localllm run --raw).",
            )

    def open(self, conversation: Conversation | None) -> None:
        """Turn to another chat, or to a new one."""
        self.dialogue.open(conversation)
        if conversation is None:
            return
        path = conversation.path()
        self.tell(
            f"{conversation.title}: {counted(len(path), 'message')}" + (", the last of them:" if len(path) > 2 else ":")
        )
        for node in path[-2:]:
            said = node.text if node.role == "user" else parted(node.text).answer or node.text
            self.tell(f"{'You' if node.role == 'user' else node.model or 'Reply'}: {attachments.summary(said)}")
        if conversation.unfinished() is not None:
            self.tell("(The last reply ended early. /continue goes on.)")
        other = own_model.look(conversation.id, conversation.settings, self.loader.wanted.options, self._present())
        if other is not None:
            self.tell(own_model.told_plainly(other, self.loader.wanted.path.name))

    def _present(self) -> Present:
        model = self.loader.model
        return Present(self.loader.wanted, model.plan if model is not None else None, self.loader.took_s)

    def _remember_model(self) -> None:
        """This chat was used with what is loaded."""
        conversation, wanted = self.conversation, self.loader.wanted
        label = own_model.label_of(wanted.path)
        settings = own_model.as_used(conversation.settings, label, wanted.options, self._present())
        if settings != conversation.settings:
            conversation.settings = settings
            self.store.set_settings(conversation.id, settings)

    def answer(self, begin: Callable[[], None]) -> None:
        """Let a reply begin, and print it until it ends; Ctrl-C stops it and keeps what is there.

        Raises:
            LocalLLMError: there is no reply, or no more of it, for this reason.
            KeyboardInterrupt: Ctrl-C, where the input is no terminal.
        """
        if self.loader.state == "failed":
            self.loader.start()
        self._ended.clear()
        with on_interrupt(self.dialogue.stop) as interrupted:
            begin()
            turn = self.dialogue.turn
            assert turn is not None
            if interrupted.is_set():  # before there was anything to stop
                turn.stop()
            self._follow(turn, turn.task.reply.text)
        node = self.dialogue.finish()
        if turn.stats is not None:
            self._remember_model()
        if node is not None:
            self.say("" if node.text.endswith("\n") else "\n", "\n" if self.interactive else "")
        if isinstance(turn.error, EngineDied):
            self.loader.fail(turn.error)
        if self._crash is not None:
            raise self._crash
        for error in (turn.error, turn.store_error):
            if error is not None:
                raise error
        self._tell_ending(turn, node)
        if interrupted.is_set() and not self.interactive:
            raise KeyboardInterrupt

    def _follow(self, turn: Turn, before: str) -> None:
        speaker: Speaker | None = None

        def say() -> None:
            nonlocal speaker
            text = self.dialogue.take()
            if text and speaker is None:
                model = self.loader.model
                speaker = Speaker(model.info.opens_thought if model is not None else "", before)
            if speaker is not None:
                speaker.say(text)

        slow_at = time.monotonic() + SLOW_S if self.interactive else float("inf")
        while not self._ended.wait(POLL_S) and self._crash is None:
            say()
            if turn.pieces:
                slow_at = float("inf")
            elif time.monotonic() > slow_at:
                slow_at = float("inf")
                self.tell("(Waiting for the model to load.)" if turn.stage == "waiting" else "(Reading the prompt.)")
        say()
        if speaker is not None:
            speaker.end()

    def _tell_ending(self, turn: Turn, node: Node | None) -> None:
        if node is None:
            cause = why_wordless(turn)
            is_full = turn.stats is not None and turn.stats.stop_reason == "context"
            self.tell(f"({cause[0].upper()}{cause[1:]}. {'--ctx makes it larger' if is_full else '/retry answers'}.)")
        elif turn.stats is not None:
            why = {
                "cancelled": "Stopped. /continue goes on.",
                "length": "Cut at the limit of tokens. /continue goes on.",
                "context": "The context is full, so the reply ends here; --ctx makes it larger.",
            }.get(turn.stats.stop_reason)
            if turn.stats.stop_reason in ("context", "length") and repeats_itself(node.text):
                why = "Cut: the answer repeats itself. /set repeat_penalty 1.1 and /retry may help, or another model."
            for note in ([why] if why else []) + [f"{loss}." for loss in turn.stats.losses]:
                self.tell(f"({note})")

    def _crashed(self, error: BaseException) -> None:
        self._crash = error
        self._ended.set()

    def close(self) -> None:
        """Free the model."""
        self.dialogue.close(timeout=2.0)
        self.loader.close()
