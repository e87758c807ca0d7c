"""What the tests of the app share: a store in a folder of its own, apps over fake models, and a hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from localllm.runtime.options import Options
from localllm.tui.app import ChatApp
from localllm.tui.loader import Wanted
from tests.library.conftest import hub as hub
from tests.tui.driving import OpenApp
from tests.tui.fake import INFO, Garage, Script


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "chats.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def open_app(store: Store) -> Iterator[OpenApp]:
    """Makes apps over one store, and closes them."""
    apps: list[ChatApp] = []

    def make(
        script: Script | None = None,
        *,
        garage: Garage | None = None,
        options: Options | None = None,
        conversation: Conversation | None = None,
        titles: bool = False,
        max_tokens: int = 0,
        panes: Mapping[str, bool] | None = None,
    ) -> ChatApp:
        wanted = Wanted(INFO.path, options or Options())
        app = ChatApp(
            (garage or Garage(script or Script())).open,
            wanted,
            store,
            conversation=conversation,
            titles=titles,
            max_tokens=max_tokens,
            panes=panes,
        )
        app.animation_level = "none"
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()
