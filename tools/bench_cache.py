#!/usr/bin/env python3
"""What reuse saves, and how soon a reply stops: a conversation reopened from disk, branched, and cancelled.

    tools/bench_cache.py [--model GGUF] [--tokens 4000] [--rounds 3]

Each figure is the median of the rounds, in seconds. Reopening is measured in a new engine with the file in the page
cache; what computing it again takes is measured in the same round. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from localllm import library
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.session import Chat
from localllm.runtime.types import Message

GREEDY = Sampling(temperature=0)
SENTENCE = "In the year {0} a ship with {0} barrels of wheat left the harbour and came back after {0} days. "
ENDLESS = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,"
DISK = 8 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="path or name (default: the embedded default)")
    parser.add_argument("--tokens", type=int, default=4000, help="about so long is the conversation")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    path = library.resolve(args.model)
    rows: dict[str, list[float]] = {}
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as home:
            os.environ["LOCALLLM_HOME"] = home
            for name, seconds in one_round(path, args.tokens, number).items():
                rows.setdefault(name, []).append(seconds)
    medians = {name: round(statistics.median(values), 3) for name, values in rows.items()}
    for name, seconds in medians.items():
        print(f"{name:44}{seconds:9.3f} s")
    print(json.dumps({"model": str(path), "tokens": args.tokens, "seconds": medians, "rounds": args.rounds}))


def one_round(path: Path, tokens: int, number: int) -> dict[str, float]:
    options = Options(n_ctx=2 * tokens, kv_disk=DISK)
    with Model.load(path, options) as model:
        chat = model.chat(sampling=GREEDY, max_tokens=8)
        found = {"first answer, all of it computed": first_token(chat, story(model, tokens, number))}
        found["next turn"] = first_token(chat, "And then?")
        found["fork"] = first_token(chat.fork(), "Who told you that?")
        found["earlier question edited"] = timed(lambda: list(chat.edit(2, "And what came after that?")), chat)
        said, closing = list(chat.messages), time.perf_counter()
    found["closing, which writes it to disk"] = time.perf_counter() - closing
    with Model.load(path, options) as model:
        found["first answer, reopened"] = again(model, said)
        model.forget()
        found["first answer, computed again"] = again(model, said)
        for name, prompt in (("cancel in prefill", story(model, tokens, number + 100)), ("cancel in decode", ENDLESS)):
            found[name] = cancelled(model, prompt, after_first=name == "cancel in decode")
    return found


def story(model: Model, tokens: int, number: int) -> str:
    """A text of about so many tokens, another one for each number."""
    one = len(model.tokenize(SENTENCE.format(1000)))
    return "".join(SENTENCE.format(1000 * number + index) for index in range(tokens // one))


def first_token(chat: Chat, text: str) -> float:
    return timed(lambda: chat.ask(text), chat)


def timed(say: Callable[[], object], chat: Chat) -> float:
    """Time to the first token of what `say` makes the chat say."""
    say()
    return chat.stats.ttft_s if chat.stats else 0.0


def again(model: Model, said: list[Message]) -> float:
    chat = model.chat(sampling=GREEDY, max_tokens=8)
    chat.messages = list(said)
    return first_token(chat, "Tell me one more thing.")


def cancelled(model: Model, prompt: str, *, after_first: bool) -> float:
    """From a call of cancel() in another thread to the end of the iteration."""
    reply = model.complete(prompt, sampling=GREEDY)
    if after_first:
        next(reply)
    asked: list[float] = []

    def stop() -> None:
        asked.append(time.perf_counter())
        reply.cancel()

    threading.Timer(0.5, stop).start()
    list(reply)
    if not asked:
        raise SystemExit("the reply ended before it was cancelled: choose another model")
    return time.perf_counter() - asked[0]


if __name__ == "__main__":
    main()
