"""The settings of the app: its colours and how much moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.chat.store import Store
from localllm.errors import BadSettings
from localllm.runtime.responder import Responder
from localllm.tui.app import ChatApp
from localllm.tui.loader import Wanted


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
