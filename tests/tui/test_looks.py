"""The settings of the app: its colours and how much moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm import settings
from localllm.chat.store import Store
from localllm.errors import BadSettings
from localllm.runtime.responder import Responder
from localllm.tui.app import ChatApp
from localllm.tui.loader import Wanted
from tests.tui.driving import OpenApp, wait_until


def no_model(*_: object) -> Responder:
    raise AssertionError("no model is asked for here")


def test_a_theme_and_the_animation_are_as_set(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "chats.sqlite3")
    app = ChatApp(no_model, Wanted(tmp_path / "m.gguf"), store, theme="textual-light", animation="none")
    assert (app.theme, app.animation_level) == ("textual-light", "none")
    app.close()
    store.close()


def test_a_theme_that_there_is_not_is_told_with_the_nearest(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "chats.sqlite3")
    with pytest.raises(BadSettings, match="There is no theme 'textual-lite'") as caught:
        ChatApp(no_model, Wanted(tmp_path / "m.gguf"), store, theme="textual-lite")
    assert "textual-light" in caught.value.hint
    store.close()


@pytest.mark.slow
async def test_a_theme_that_is_chosen_is_there_at_the_next_start(open_app: OpenApp) -> None:
    async with open_app().run_test() as pilot:
        pilot.app.theme = "nord"
        await wait_until(pilot, lambda: settings.load().settings.theme == "nord", "the theme to be kept")
