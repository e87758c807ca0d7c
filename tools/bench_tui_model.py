#!/usr/bin/env python3
"""What the terminal app leaves of a real model's speed, and how fast it stops.

    tools/bench_tui_model.py [MODEL] [--rounds 3] [--tokens 256] [--old 200]

`decode` is the decode rate of a greedy reply in the app, with old messages above it on the screen that are no part of
the prompt, beside that of `localllm run` on the same prompt and settings, in turns; medians, and the median of the
rounds' ratios, because the speed of a virtual machine drifts. `stop` is the longest time from the key to the end of the
reply, in milliseconds, while the model loads, reads and writes. The app runs in a pseudo-terminal that is read all the
time. The last line is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bench_tui import PARAGRAPH, run_in_terminal

PROMPT = "Write a long story about a lighthouse keeper and the ships that pass by, in many chapters."
LONG = "Here is what somebody wrote. " * 400 + "Sum it up."
CONTEXT = 4096
SETTLE_S = 0.5
LOOK_S = 0.5
"""How often it is looked whether the reply that is measured is over: each look wakes the app."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="as for `localllm chat` (default: the default model)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=256, help="length of a reply")
    parser.add_argument("--old", type=int, default=200, metavar="N", help="old messages above")
    parser.add_argument("--size", default="120x36", metavar="WxH", help="of the terminal (default: 120x36)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    from localllm import library

    path = library.resolve(args.model)
    if args.inside:
        run_inside(path, args.tokens, args.old)
        return 0
    width, height = (int(part) for part in args.size.split("x"))
    again = [str(path), "--inside", "--tokens", str(args.tokens), "--old", str(args.old)]
    inside: list[dict[str, Any]] = []
    outside: list[float] = []
    turns: tuple[Callable[[], None], ...] = (
        lambda: inside.append(run_in_terminal(again, width, height, Path(__file__))),
        lambda: outside.append(run_alone(path, args.tokens)),
    )
    for number in range(args.rounds):
        for turn in turns if number % 2 == 0 else reversed(turns):
            turn()
        print(f"round {number + 1}: app {inside[-1]['decode_tps']:.1f}, run {outside[-1]:.1f} tok/s", flush=True)
    app, run = statistics.median(one["decode_tps"] for one in inside), statistics.median(outside)
    ratio = statistics.median(one["decode_tps"] / other for one, other in zip(inside, outside, strict=True))
    stops = {stage: max(one["stop_ms"][stage] for one in inside) for stage in ("load", "prefill", "decode")}
    print(f"decode: app {app:.1f}, run {run:.1f} tok/s, ratio {ratio:.3f}; stop: {stops}")
    print(json.dumps({"model": path.name, "app_tps": app, "run_tps": run, "ratio": ratio, "stop_ms": stops}))
    return 0


def run_alone(path: Path, tokens: int) -> float:
    """The decode rate of `localllm run`, in tokens per second."""
    command = [sys.executable, "-m", "localllm", "run", str(path), PROMPT, "--json", "--temperature", "0"]
    command += ["--max-tokens", str(tokens), "--ctx", str(CONTEXT)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["stats"]["decode_tps"])


def run_inside(path: Path, tokens: int, old: int) -> None:
    """Run the app over the model, and write its decode rate and how fast it stopped to the parent."""
    from localllm.chat.store import Store
    from localllm.cli.chat import open_model
    from localllm.runtime.options import Options
    from localllm.runtime.sampling import Sampling
    from localllm.tui.app import ChatApp
    from localllm.tui.entries import Entry, UserEntry
    from localllm.tui.loader import Wanted
    from localllm.tui.messages import PromptSent
    from localllm.tui.pace import GATHER_S
    from localllm.tui.reply_entry import ReplyEntry

    class Measured(ChatApp):
        result: dict[str, Any]

        def on_ready(self) -> None:
            self.run_worker(self.measure())

        async def measure(self) -> None:
            stops = {"load": await self.stopped_after(PROMPT, lambda: self.chat.busy)}
            await until(lambda: self.chat.model is not None)
            stops["prefill"] = await self.stopped_after(
                LONG, lambda: bool((turn := self.turn) and (progress := turn.progress) and progress.done)
            )
            self.chat.action_new_chat()
            entries: list[Entry] = []
            for number in range(old // 2):
                entries += [UserEntry(f"Question {number}"), ReplyEntry(PARAGRAPH)]
            self.chat.talk.show(entries)
            dialogue = self.chat.behind.dialogue
            dialogue.max_tokens = tokens
            await asyncio.sleep(SETTLE_S)  # a person would have seen them before
            self.chat.post_message(PromptSent(PROMPT))
            await until(lambda: self.chat.busy)
            await until(lambda: not self.chat.busy, LOOK_S)
            stats = self.chat.conversation.path()[-1].stats
            dialogue.max_tokens = 0
            stops["decode"] = await self.stopped_after(PROMPT, lambda: bool((turn := self.turn) and turn.pieces > 1))
            self.result = {"decode_tps": stats.decode_tps if stats else 0.0, "stop_ms": stops}
            self.exit()

        @property
        def turn(self) -> Any:
            return self.chat.behind.dialogue.turn

        async def stopped_after(self, text: str, moment: Callable[[], bool]) -> float:
            """Send `text`, stop the reply at that moment. Returns how long that took, in milliseconds."""
            self.chat.post_message(PromptSent(text))
            await until(moment)
            began = time.monotonic()
            self.chat.replies.stop()
            await until(lambda: not self.chat.busy)
            return (time.monotonic() - began) * 1000

    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "chats.sqlite3")
        as_in_app = partial(open_model, gather_s=GATHER_S)
        app = Measured(as_in_app, Wanted(path, Options(n_ctx=CONTEXT)), store, sampling=Sampling(temperature=0))
        app.run()
        app.close()
        store.close()
    with os.fdopen(int(os.environ["BENCH_RESULT"]), "w") as result:
        json.dump(app.result, result)


async def until(holds: Callable[[], bool], look_s: float = 0.02) -> None:
    while not holds():
        await asyncio.sleep(look_s)


if __name__ == "__main__":
    sys.exit(main())
