#!/usr/bin/env python3
"""Takes the picture of the app for the README: a real run with a real model, greedy, so that it can be taken again.

Nothing is staged but the questions: the model answers them, and the memory panel shows what it uses on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from localllm import library
from localllm.chat.store import Store
from localllm.cli.chat import open_model
from localllm.runtime.sampling import Sampling
from localllm.tui.app import ChatApp
from localllm.tui.loader import Wanted
from localllm.tui.widgets.prompt import Prompt

ROOT = Path(__file__).resolve().parent.parent
EARLIER = ("Name three rivers in Europe.", "What is a prime number?")
QUESTIONS = (
    "Why is the sky blue? Answer in two sentences.",
    "Write a Python function that tells whether a number is even.",
)
PATIENCE_S = 120
SAMPLING = Sampling(temperature=0)
"""The same picture each time."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as for `localllm chat` (default: the default model)")
    parser.add_argument("--outfile", type=Path, default=ROOT / "docs" / "chat.svg", metavar="FILE")
    parser.add_argument("--size", default="140x32", metavar="WxH", help="of the terminal (default: 140x32)")
    parser.add_argument("--theme", default="textual-dark", metavar="NAME", help="one of Textual's")
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "chats.sqlite3")
        app = ChatApp(open_model, Wanted(library.resolve(args.model)), store, sampling=SAMPLING)
        try:
            picture = asyncio.run(converse(app, (width, height), args.theme))
        finally:
            app.close()
            store.close()
    args.outfile.parent.mkdir(parents=True, exist_ok=True)
    args.outfile.write_text(picture, encoding="utf-8")
    print(f"{args.outfile}: {len(picture):,} characters")
    return 0


async def converse(app: ChatApp, size: tuple[int, int], theme: str) -> str:
    """Have some chats, then return what the screen looks like."""
    async with app.run_test(size=size) as pilot:
        app.theme = theme
        for question in EARLIER:
            await ask(pilot, app, question)
            await pilot.press("ctrl+n")
        for question in QUESTIONS:
            await ask(pilot, app, question)
        # Until the list of chats and the memory panel have caught up.
        await asyncio.sleep(1.5)
        await pilot.pause()
        return app.export_screenshot(title="localllm")


async def ask(pilot: Pilot[None], app: ChatApp, question: str) -> None:
    """Send a message and wait for the end of the reply."""
    before = len(app.chat.conversation.nodes)
    app.query_one(Prompt).insert(question)
    await pilot.press("enter")
    await wait_until(lambda: len(app.chat.conversation.nodes) > before and not app.chat.busy)


async def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"The model did not answer within {PATIENCE_S} s.")
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
