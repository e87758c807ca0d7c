#!/usr/bin/env python3
"""Records the app for the README: a real run with a real model, as an SVG that moves.

First start, a question, a stop, a second version of the reply, quit; then the same chat again, which goes on where it
was. Nothing is staged but what is typed; what is shown is what the app drew, at the time it drew it, except that waits
of more than a second and a half are cut to that.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from moving_picture import Film
from textual.pilot import Pilot

from localllm import library
from localllm.chat.store import Store
from localllm.cli.chat import open_model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.tui.app import ChatApp
from localllm.tui.loader import Wanted

ROOT = Path(__file__).resolve().parent.parent
SAMPLING = Sampling(temperature=0.2)
"""Enough that a second reply differs from the first, and little enough that the smallest model knows the capital."""

KV_DISK = 2 << 30
"""As much of computed conversations is kept as `localllm chat` keeps."""

FRAME_S = 0.25
LONGEST_S = 1.5
PATIENCE_S = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as for `localllm chat` (default: the default model)")
    parser.add_argument("--outfile", type=Path, default=ROOT / "docs" / "chat-moving.svg", metavar="FILE")
    parser.add_argument("--size", default="104x30", metavar="WxH", help="of the terminal (default: 104x30)")
    args = parser.parse_args()
    width, height = (int(part) for part in args.size.split("x"))
    film = Film(width, height)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCALLLM_HOME"] = folder
        asyncio.run(Recording(film, Path(folder), Wanted(library.resolve(args.model), Options(kv_disk=KV_DISK))).make())
    picture = film.svg()
    args.outfile.parent.mkdir(parents=True, exist_ok=True)
    args.outfile.write_text(picture, encoding="utf-8")
    print(f"{args.outfile}: {len(picture.encode()):,} bytes, {len(film.frames)} frames, {film.seconds:.0f} s")
    return 0


class Recording:
    """The run, filmed."""

    def __init__(self, film: Film, folder: Path, wanted: Wanted) -> None:
        self._film, self._folder, self._wanted = film, folder, wanted

    async def make(self) -> None:
        """Play both starts."""
        self._film.shell("", "localllm", hold=0.6)
        async with self._app() as (app, pilot):
            await self._write(pilot, "Name the capital of France.", "The model loads behind the first picture")
            await self._watch(pilot, lambda: not app.chat.busy, "The reply streams, the KV cache fills")
            await self._write(pilot, "Tell me a story about a lighthouse.", "")
            await self._watch(pilot, lambda: self._pieces(app) > 60, "Nothing of the first turn is computed again")
            await self._press(pilot, "escape", "Esc stops")
            await self._watch(pilot, lambda: not app.chat.busy, "Esc stops", hold=1.5)
            await self._press(pilot, "ctrl+r", "Ctrl+R answers again")
            await self._watch(
                pilot, lambda: self._pieces(app) > 60, "Ctrl+R answers again: a branch, the first is kept"
            )
            await self._press(pilot, "escape", "Esc stops")
            await self._watch(pilot, lambda: not app.chat.busy, "Esc stops", hold=1.0)
            await self._press(pilot, "alt+left", "Alt+Left: the first version", hold=1.2)
            await self._press(pilot, "alt+right", "Alt+Right: the second", hold=0.8)
            await self._press(pilot, "ctrl+q", "Ctrl+Q quits")
        self._film.shell("Every word is on disk", "localllm --continue", hold=0.8)
        async with self._app(again=True) as (app, pilot):
            await self._watch(pilot, lambda: app.chat.model is not None, "The same chat again", hold=1.0)
            await self._press(pilot, "ctrl+g", "Ctrl+G goes on")
            await self._watch(pilot, lambda: self._pieces(app) > 60, "Ctrl+G goes on where the reply stopped")
            await self._press(pilot, "escape", "Esc stops")
            await self._watch(pilot, lambda: not app.chat.busy, "Esc stops", hold=2.0)
            await self._press(pilot, "ctrl+q", "Ctrl+Q quits")
        self._film.shell("", "", hold=1.0)

    @asynccontextmanager
    async def _app(self, *, again: bool = False) -> AsyncIterator[tuple[ChatApp, Pilot[None]]]:
        store = Store.open(self._folder / "chats.sqlite3")
        chat = store.load(store.chats()[0].id) if again else None
        app = ChatApp(open_model, self._wanted, store, sampling=SAMPLING, conversation=chat)
        try:
            async with app.run_test(size=(self._film.width, self._film.height)) as pilot:
                yield app, pilot
        finally:
            app.close()
            store.close()

    def _pieces(self, app: ChatApp) -> int:
        turn = app.chat.behind.dialogue.turn
        return turn.pieces if turn is not None else PATIENCE_S

    async def _write(self, pilot: Pilot[None], text: str, caption: str) -> None:
        for number, letter in enumerate(text):
            await pilot.press("space" if letter == " " else letter)
            if number % 2:
                self._film.take(pilot.app, caption, 0.1)
        self._film.take(pilot.app, caption, 0.4)
        await pilot.press("enter")

    async def _press(self, pilot: Pilot[None], key: str, caption: str, hold: float = 0.0) -> None:
        await pilot.press(key)
        await pilot.pause()
        if pilot.app.is_running:
            self._film.take(pilot.app, caption, hold or FRAME_S)

    async def _watch(self, pilot: Pilot[None], over: Callable[[], bool], caption: str, hold: float = 0.6) -> None:
        """Film until `over()`, and a while more."""
        began = time.monotonic()
        while not over():
            if time.monotonic() - began > PATIENCE_S:
                raise SystemExit(f"Waited {PATIENCE_S} s in vain: {caption}")
            await asyncio.sleep(FRAME_S)
            self._film.take(pilot.app, caption, FRAME_S, longest=LONGEST_S)
        await pilot.pause()
        self._film.take(pilot.app, caption, hold)


if __name__ == "__main__":
    sys.exit(main())
