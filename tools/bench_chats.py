#!/usr/bin/env python3
"""Measures the database of chats: writing, listing, opening and searching among many messages.

The messages are made-up words, a few of them frequent and most rare, as in a language. The last line is one JSON
document; times in milliseconds, the median of some runs, and sizes in bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from localllm.chat.conversation import Conversation, title_of
from localllm.chat.store import Store
from localllm.runtime.types import Stats

STATS = Stats(10, 4, 3, 0.1, 100.0, 30.0, "end")
RUNS = 9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=1000, metavar="N", help="(default: 1000)")
    parser.add_argument("--messages", type=int, default=100, metavar="N", help="in each chat (default: 100)")
    parser.add_argument("--words", type=int, default=60, metavar="N", help="in each message (default: 60)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.sqlite3"
        store = Store.open(path)
        ids = fill(store, args.chats, args.messages, args.words)
        figures: dict[str, float] = {"bytes": size(path)}
        figures["first search, without the index"] = once(lambda: store.find("lighthouse"))
        figures["making the index"] = once(lambda: index(store))
        figures["bytes with the index"] = size(path)
        figures["search, one word"] = median(lambda: store.find("lighthouse"))
        figures["search, two letters, without the index"] = median(lambda: store.find("zq"))
        figures["list"] = median(store.chats)
        figures["open a chat"] = median(lambda: store.load(ids[len(ids) // 2]))
        chat = store.load(ids[0])
        reply = chat.add_reply(chat.path()[-1].id)
        store.add(chat, chat.extend(reply.id, "word " * 400))
        figures["write a reply of 400 words again"] = median(lambda: store.update(chat.extend(reply.id, " more")))
        figures["add a message"] = median(lambda: store.add(chat, chat.add_user("Why?")))
        store.close()
        figures["open the database"] = median(lambda: Store.open(path).close())
    for name, figure in figures.items():
        print(f"{name:<42} {figure:>14,.1f}", file=sys.stderr)
    print(json.dumps({"chats": args.chats, "messages": args.messages, "words": args.words, **figures}))
    return 0


def fill(store: Store, chats: int, messages: int, words: int) -> list[str]:
    """Random chats, one of which holds a rare word."""
    chance = random.Random(6)
    known, weights = vocabulary(chance)

    def text() -> str:
        return " ".join(chance.choices(known, weights, k=words))

    ids = []
    for number in range(chats):
        chat = Conversation()
        for _ in range(messages // 2):
            chat.add_user(text())
            reply = chat.add("assistant", text(), model="m")
            chat.finish(reply.id, STATS)
        if number == chats // 2:
            chat.add_user("A lighthouse.")
        chat.given_title = title_of(chat.path()[0].text)
        store.add_whole(chat)
        ids.append(chat.id)
    return ids


def vocabulary(chance: random.Random) -> tuple[list[str], list[float]]:
    """Words, and how frequent each is: the nth of them one nth as frequent as the first."""
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxy", k=chance.randrange(2, 9))) for _ in range(20_000)]
    return words, [1 / rank for rank in range(1, len(words) + 1)]


def index(store: Store) -> None:
    while store.index_some():
        pass


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.parent.iterdir())


def once(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return (time.perf_counter() - began) * 1000


def median(job: Callable[[], object]) -> float:
    return statistics.median(once(job) for _ in range(RUNS))


if __name__ == "__main__":
    sys.exit(main())
