"""Whatever a hasty person does, on a disk that is full at times: each word that was written is in a chat or a draft."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.screen import ModalScreen

from localllm.chat.store import Store
from localllm.errors import BadStore, EngineDied
from localllm.tui.app import ChatApp
from localllm.tui.messages import ChatChosen
from localllm.tui.widgets.prompt import Prompt
from tests.tui.driving import Driver, OpenApp, idle, say, wait_until
from tests.tui.fake import Garage, Script

pytestmark = pytest.mark.slow

SEEDS, ACTIONS = range(3), 60
KEYS = (
    "escape",
    "ctrl+c",
    "ctrl+r",
    "ctrl+g",
    "ctrl+n",
    "ctrl+n",
    "alt+left",
    "alt+right",
    "f1",
    "f5",
    "f5",
    "f6",
    "f7",
)


class FullAtTimes:
    """The disk of a store, which refuses all that is written while it is `full`."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        for owner, name in [(store, "add"), (store, "update"), (store, "add_whole"), (store.drafts, "keep")]:
            monkeypatch.setattr(owner, name, self._guarded(getattr(owner, name)))

    def _guarded(self, write: Callable[..., object]) -> Callable[..., object]:
        def guarded(*what: object, **how: object) -> object:
            if self.full:
                raise BadStore("The disk is full.")
            return write(*what, **how)

        return guarded


class Hasty:
    """A person who waits for nothing, and what they wrote."""

    def __init__(self, pilot: Driver, app: ChatApp, store: Store, notes: Path, chance: random.Random) -> None:
        self.written: list[str] = []
        self._pilot, self._app, self._store, self._notes, self._chance = pilot, app, store, notes, chance

    def _word(self) -> str:
        self.written.append(f"w{len(self.written)}x")
        return self.written[-1]

    async def act(self) -> None:
        chats, chance = self._store.chats(), self._chance
        deed = chance.choice(["say", "say", "say with a file", "write", "attach", "open", "fork", *["press"] * 5])
        if deed == "say":
            await say(self._pilot, self._word())
        elif deed == "say with a file":
            await say(self._pilot, f"{self._word()} @{self._notes} ")
        elif deed == "write":
            self._app.query_one(Prompt).insert(self._word())
        elif deed == "attach":
            self._app.chat.talk.composer.attach(self._notes)
        elif deed == "open" and chats:
            self._app.chat.chats.choose(ChatChosen(chance.choice(chats).id))
        elif deed == "fork":
            self._app.chat.action_fork()
        else:
            await self._pilot.press(chance.choice(KEYS))
            if isinstance(self._app.screen, ModalScreen):
                await self._pilot.press("escape")
        await asyncio.sleep(chance.choice([0, 0, 0.02, 0.1]))


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_word_is_lost(
    open_app: OpenApp, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    notes, chance, garage = tmp_path / "notes.md", random.Random(seed), Garage(Script())
    notes.write_text("the river")
    disk, script = FullAtTimes(store, monkeypatch), garage.script
    app = open_app(garage=garage)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        person = Hasty(pilot, app, store, notes, chance)
        for _ in range(ACTIONS):
            script.reply = chance.choice(["", " ", "Paris.", "Paris is the capital of France. " * 5])
            script.prefill_s, script.piece_s = chance.choice([0, 0.05]), chance.choice([0, 0.01])
            script.error = chance.choice([None, None, None, EngineDied("The engine ended.")])
            script.dies_after = chance.choice([0, 1])
            disk.full = chance.random() < 0.2
            await person.act()
        await wait_until(pilot, lambda: idle(pilot))
    disk.full = False
    app.close()
    said = [node.text for entry in store.chats() for node in store.load(entry.id).nodes.values()]
    kept = "\n".join([*said, *(draft for (draft,) in store._database.rows("SELECT text FROM draft"))])
    assert [word for word in person.written if word not in kept] == []
