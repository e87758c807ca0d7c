"""Chats for tests, as the app writes them."""

from __future__ import annotations

from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.runtime.types import Stats

STATS = Stats(10, 4, 3, 0.1, 100.0, 30.0, "end")


def talk(store: Store, question: str = "Hi", answer: str = "Hello.") -> Conversation:
    chat = Conversation()
    store.add(chat, chat.add_user(question))
    reply = chat.add_reply(chat.path()[-1].id, model="m")
    store.add(chat, chat.extend(reply.id, answer))
    store.update(chat.finish(reply.id, STATS))
    return chat
