"""`kill -9` of the real app and the real engine: what was being answered and what was being written is there again."""

from __future__ import annotations

import os
import pty
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psutil
import pytest

from localllm import paths
from localllm.chat.conversation import Conversation
from localllm.chat.store import Store
from tests.terminal import drain, until

pytestmark = pytest.mark.slow

STORY = "Write a very long story about a lighthouse keeper, in ten chapters."


@pytest.fixture(autouse=True)
def _end_all() -> Iterator[None]:
    """Whatever fails, no app goes on."""
    yield
    for process in App.started:
        process.kill()
        process.wait()
    App.started.clear()


class App:
    """The app in a terminal of its own, as a process of its own."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, model: Path, *arguments: str) -> None:
        self._terminal, theirs = pty.openpty()
        command = [sys.executable, "-m", "localllm", "chat", str(model), "--ctx", "1024", *arguments]
        environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        self.started.append(self.process)
        os.close(theirs)
        self._drawn = bytearray()
        threading.Thread(target=drain, args=(self._terminal, self._drawn), daemon=True).start()
        # What is typed before the app listens is lost.
        until(lambda: b"rite a message" in self._drawn, "the first picture")  # the cursor is on the W

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def shows(self, text: str) -> bool:
        """Whether it was drawn, in one go."""
        return text.encode() in self._drawn

    def engine(self) -> psutil.Process:
        return psutil.Process(self.process.pid).children()[0]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.press("\x11")  # Ctrl+Q
            self.process.wait(30)
        os.close(self._terminal)


def read() -> list[Conversation]:
    """All chats as they are on disk, without repairing anything: the app is alive, or is to do it itself."""
    store = Store.open(paths.chats_file())
    try:
        return [store.load(entry.id) for entry in store.chats()]
    finally:
        store.close()


def last_text() -> str:
    chats = read() if paths.chats_file().exists() else []
    path = chats[0].path() if chats else []
    return path[-1].text if len(path) > 1 else ""


def test_the_app_is_killed_and_the_reply_goes_on(smollm2: Path) -> None:
    app = App(smollm2)
    app.press(STORY + "\r")
    until(lambda: len(last_text()) > 40, "the first words on disk")
    time.sleep(1.0)
    engine = app.engine()
    shown_before = last_text()
    app.kill()
    until(lambda: not engine.is_running() or engine.status() == psutil.STATUS_ZOMBIE, "the engine to end, too")
    (chat,) = read()
    question, reply = chat.path()
    assert question.text == STORY
    assert reply.state == "partial"
    assert reply.text.startswith(shown_before)

    app = App(smollm2, "--continue")
    try:
        app.press("\x07")  # Ctrl+G
        until(lambda: len(last_text()) > len(reply.text) + 20, "the reply to go on")
    finally:
        app.press("\x1b")
        app.close()
    (chat,) = read()
    assert len(chat.nodes) == 2
    assert chat.path()[-1].text.startswith(reply.text)


def drafts() -> list[str]:
    """What is on disk of what is being written, read without taking it from the app."""
    db = sqlite3.connect(paths.chats_file())
    try:
        return [text for (text,) in db.execute("SELECT text FROM draft")]
    finally:
        db.close()


def test_the_app_is_killed_and_what_was_being_written_is_there(smollm2: Path) -> None:
    app = App(smollm2)
    app.press("Name three")
    until(lambda: drafts() == ["Name three"], "the draft on disk")
    app.press(" rivers")
    until(lambda: drafts() == ["Name three rivers"], "all of the draft on disk")
    app.kill()
    assert read() == []

    app = App(smollm2)
    try:
        until(lambda: app.shows("Name three rivers"), "the draft in the prompt")
        app.press(".\r")
        until(lambda: [chat.path()[0].text for chat in read()] == ["Name three rivers."], "the message on disk")
        assert drafts() == []
    finally:
        app.press("\x1b")
        app.close()
    assert drafts() == []


def test_random_kills_of_app_and_engine_lose_nothing(smollm2: Path) -> None:
    """A few of them with all that is real; fifty are done to the store alone, see tests/chat/test_kills.py."""
    chance = random.Random(6)
    longest: dict[str, str] = {}
    for number in range(6):
        app = App(smollm2, "--temperature", "0")
        app.press(f"Count from {number} to one hundred, in words.\r")
        asked = number + 1
        until(lambda: sum(len(chat.nodes) > 1 for chat in read()) >= asked, "the first words on disk")  # noqa: B023
        time.sleep(chance.uniform(0, 1.5))
        seen = {node.id: node.text for chat in read() for node in chat.nodes.values()}
        if number % 3 != 1:
            os.kill(app.engine().pid, signal.SIGKILL)
        if number % 3 != 0:
            app.kill()
        app.close()
        longest |= seen
        chats = read()
        assert len(chats) == asked
        nodes = {node.id: node for chat in chats for node in chat.nodes.values()}
        for message, text in longest.items():
            assert nodes[message].text.startswith(text)
        assert all(node.state != "writing" for node in nodes.values())
