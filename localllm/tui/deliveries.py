"""Which part of the chat each message is for: from the threads behind the screen, and from the widgets on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast

from textual.message import Message

from localllm.tui import messages

if TYPE_CHECKING:
    from localllm.tui.screens.chat import ChatScreen

Kind = TypeVar("Kind", bound=Message)
Deed = Callable[[Message], object]


def deliveries(screen: ChatScreen) -> Mapping[type[Message], Deed]:
    """What is done with each kind of message that reaches the screen."""
    return dict(
        [
            _to(messages.PromptSent, lambda event: screen.sending.send(event.text)),
            _to(messages.PromptEdited, lambda _: screen.sending.edited()),
            _to(messages.AttachmentsChanged, lambda _: screen.sending.edited()),
            _to(messages.MessageMade, screen.sending.made),
            _to(messages.MessageRefused, lambda event: screen.loaded.explain(event.error)),
            _to(messages.LookedAhead, screen.sending.looked_ahead),
            _to(messages.ReplyBegan, lambda event: screen.replies.began(event.turn)),
            _to(messages.ReplyGrew, lambda event: screen.replies.grew(event.turn)),
            _to(messages.ReplyEnded, lambda event: screen.replies.ended(event.turn)),
            _to(messages.VersionWanted, screen.branches.wanted),
            _to(messages.ChatsListed, lambda event: screen.chats.listed(event.chats)),
            _to(messages.ChatsFound, lambda event: screen.sidebar.found(event.words, event.hits)),
            _to(messages.ChatChosen, screen.chats.choose),
            _to(messages.ChatOpened, screen.chats.opened),
            _to(messages.DraftFound, screen.drafts.found),
            _to(messages.ChatDropped, screen.chats.drop),
            _to(messages.ChatExported, screen.chats.exported),
            _to(messages.ChatsLeft, lambda _: screen.leave_chats()),
            _to(messages.PromptsFound, lambda event: screen.talk.prompt.remember(event.prompts)),
            _to(messages.ModelChanged, lambda _: screen.loaded.changed()),
            _to(messages.ModelLost, lambda event: screen.loaded.lost(event.error)),
            _to(messages.ModelNamed, lambda event: screen.switching.load(event.name, event.path)),
            _to(messages.OwnModelFound, screen.resuming.found),
            _to(messages.OwnModelWanted, lambda _: screen.resuming.load()),
            _to(messages.ModelLabelled, screen.resuming.labelled),
            _to(messages.DownloadMoved, screen.switching.moved),
            _to(messages.DownloadEnded, screen.switching.ended),
            _to(messages.Sampled, screen.watching.sampled),
            _to(messages.MachineWatched, lambda event: screen.watching.watch(event.machine)),
            _to(messages.Failed, lambda event: screen.loaded.explain(event.error)),
            _to(messages.Crashed, lambda event: _raise(event.error)),
        ]
    )


def _to(kind: type[Kind], deed: Callable[[Kind], object]) -> tuple[type[Message], Deed]:
    return kind, cast(Deed, deed)


def _raise(error: BaseException) -> None:
    raise error
