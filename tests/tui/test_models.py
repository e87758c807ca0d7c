"""Models in the app: what there is, another one loaded, one downloaded beside the chat, stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from textual.message import Message
from textual.widgets import OptionList

from localllm.chat.settings import MODEL
from localllm.chat.store import Store
from localllm.cli.chat import open_model
from localllm.errors import BadTemplate, Cancelled, DoesNotFit, ModelNotFound
from localllm.library.pulling import download, partial
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.tui import switching
from localllm.tui.app import ChatApp
from localllm.tui.downloads import Downloads
from localllm.tui.loader import Wanted
from localllm.tui.messages import DownloadEnded, DownloadMoved
from localllm.tui.models import Choice, choices, room_after
from localllm.tui.wording import download_line, notice
from tests.library.hub_server import HubServer, hub_server
from tests.library.pulls import model, unfinished
from tests.tui.driving import OpenApp, ask, say, screen_text, wait_until
from tests.tui.fake import GIB, INFO, FakeResponder, Garage, Script
from tests.tui.pictures import check

LIST = [
    Choice("fake-1b", INFO.path, 700_000_000, "Q4_K_M", 950_000_000),
    Choice("other-3b", Path("other-3b.gguf"), 2_000_000_000, "Q8_0", 2_400_000_000),
    Choice("broken", Path("broken.gguf"), 1000, "", 0, "it is truncated"),
    Choice("large:70b", None, 40 * GIB, "Q4_K_M", 44 * GIB),
    Choice("small:1b", None, 500_000_000, "Q4_K_M", 800_000_000),
]


def crashed(error: BaseException) -> None:
    raise error


def test_what_is_here_comes_first_and_the_catalogue_after_it() -> None:
    found = choices()
    here = [choice for choice in found if choice.path is not None]
    assert any("SmolLM2-135M" in str(choice.path) and choice.needed > 90_000_000 for choice in here)
    absent = found[len(here) :]
    assert absent
    assert all(choice.path is None and choice.bytes > 0 for choice in absent)
    assert "smollm2:135m" not in [choice.name for choice in absent]


def test_a_note_says_size_type_and_whether_it_fits() -> None:
    choice = LIST[1]
    assert choice.note(None) == "1.86 GiB · Q8_0"
    assert choice.note(8 * GIB).endswith("fits: about 2.24 GiB")
    assert choice.note(GIB).endswith("does not fit: about 2.24 GiB")
    assert LIST[2].note(GIB) == "1000 B · it is truncated"


def test_a_note_says_that_there_is_no_chat_template() -> None:
    choice = replace(LIST[1], lacks_template=True)
    assert choice.note(8 * GIB).endswith("fits: about 2.24 GiB · no chat template")
    assert choice.short_note(None) == "1.86 GiB · no chat template"


@pytest.mark.slow
async def test_a_model_without_a_chat_template_is_no_dead_end(open_app: OpenApp, store: Store) -> None:
    app = open_app(Script(has_chat_template=False))
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b.gguf has no chat template" in screen_text(pilot))
        assert "F8 loads another model" in screen_text(pilot)
        await say(pilot, "Capital?")
        await wait_until(pilot, lambda: "This model has no chat template" in screen_text(pilot))
        assert app.chat.talk.prompt.text == "Capital?"
        assert store.chats() == []


def test_that_a_template_fails_is_told_in_words_of_the_app() -> None:
    told = notice(BadTemplate("It has none.", hint="Use --raw."))
    assert "--raw" not in told.copied_text()
    assert "F8 loads another model" in told.copied_text()


def test_what_the_loaded_model_holds_is_room_for_the_next() -> None:
    sample = FakeResponder().memory()
    assert room_after(sample) == 12 * GIB + (264 << 20)
    assert room_after(None) is None


def test_a_download_is_told_in_words() -> None:
    assert download_line(DownloadMoved("m", 512 << 20, 1 << 30, 2.5 * (1 << 20))) == (
        "downloading: 50% of 1.00 GiB · 2.5 MiB/s"
    )
    assert download_line(DownloadMoved("m", 512 << 20, 0, 0.0)) == "downloading: 512.0 MiB · 0 B/s"
    converting = DownloadMoved("m", 300_000_000, 1_200_000_000, 17_800_000.0, converts=True)
    assert download_line(converting) == "converting: 25% · 17.8 M weights/s"
    assert download_line(DownloadMoved("m", 0, 0, 0.0, remark="the hub is busy")) == "the hub is busy"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for module in (partial, download):
        monkeypatch.setattr(module, "BLOCK", 10_000)
    monkeypatch.setattr(download, "SPAN", 30_000)
    monkeypatch.setattr(download, "LEAST", 30_000)
    with hub_server() as running:
        yield running


@pytest.mark.slow
def test_a_download_is_stopped_and_resumed(server: HubServer, tmp_path: Path) -> None:
    served = server.files["m.gguf"] = tmp_path / "served.gguf"
    served.write_bytes(model(2_000_000))
    server.faults.pause = 0.05  # a piece, so that it is still under way when it is stopped
    heard: list[Message] = []

    def hear(message: Message) -> None:
        heard.append(message)
        if isinstance(message, DownloadMoved) and len(heard) == 1:
            downloads.cancel()

    def end() -> DownloadEnded:
        deadline = time.monotonic() + 20
        while not (heard and isinstance(heard[-1], DownloadEnded)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        last = heard[-1]
        assert isinstance(last, DownloadEnded)
        return last

    downloads = Downloads(hear, crashed)
    address = f"{server.web}/m.gguf"
    assert downloads.start(address)
    assert not downloads.start("another")
    assert isinstance(end().error, Cancelled)
    downloads.ended()
    server.faults.pause = 0
    # So that the next word of its progress does not stop it.
    heard[:] = [DownloadMoved("before", 0, 0, 0.0)]
    assert downloads.start(address)
    done = end()
    assert done.error is None
    assert done.path is not None
    assert done.path.read_bytes() == served.read_bytes()
    assert unfinished(done.path.parent) == []


@pytest.mark.slow
def test_a_download_that_fails_says_why() -> None:
    heard: list[Message] = []
    Downloads(heard.append, crashed).start("no-such-model-anywhere")
    deadline = time.monotonic() + 20
    while not heard:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (ended,) = heard
    assert isinstance(ended, DownloadEnded)
    assert isinstance(ended.error, ModelNotFound)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "choices", lambda: LIST)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 30), (160, 36)])
async def test_a_picture_of_the_models(open_app: OpenApp, listed: None, size: tuple[int, int]) -> None:
    async with open_app().run_test(size=size, notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
        await wait_until(pilot, lambda: pilot.app.chat.watching.last is not None)  # type: ignore[attr-defined]
        await pilot.press("f8")
        await wait_until(pilot, lambda: "large:70b" in screen_text(pilot))
        check(pilot, "models")


@pytest.mark.slow
async def test_another_model_is_loaded_and_the_chat_remembers_it(open_app: OpenApp, listed: None, store: Store) -> None:
    garage = Garage()
    app = open_app(garage=garage)
    async with app.run_test(size=(100, 36), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        await pilot.press("f8")
        await wait_until(pilot, lambda: "other-3b" in screen_text(pilot))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[0].closed
        assert garage.models[1].wanted.path == Path("other-3b.gguf")
        (entry,) = store.chats()
        await wait_until(pilot, lambda: store.load(entry.id).settings.get(MODEL) == "other-3b")


@pytest.mark.slow
async def test_a_model_that_does_not_load_gives_way_to_the_one_before(open_app: OpenApp, listed: None) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(100, 36), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        garage.script.load_error = DoesNotFit("It needs 9.0 GiB.")
        await pilot.press("f8")
        await wait_until(pilot, lambda: "other-3b" in screen_text(pilot))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: "It needs 9.0 GiB." in screen_text(pilot))
        garage.script.load_error = None
        await pilot.press("f5")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[1].wanted.path == INFO.path


@pytest.mark.slow
async def test_a_download_goes_on_beside_the_chat(
    open_app: OpenApp, listed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(self: Downloads, name: str) -> bool:
        started.append(name)
        self.name = name
        return True

    monkeypatch.setattr(Downloads, "start", start)
    app = open_app(Script())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
        await pilot.press("f8")
        await wait_until(pilot, lambda: "small:1b" in screen_text(pilot))
        app.screen.query_one(OptionList).highlighted = 4
        await pilot.press("enter")
        assert not started
        await pilot.press(*"sma")
        assert "Enter once more" not in screen_text(pilot)
        await pilot.press("enter")
        assert not started
        assert "Enter once more downloads small:1b" in screen_text(pilot)
        await pilot.press("enter")
        assert started == ["small:1b"]
        app.chat.post_message(DownloadMoved("small:1b", 250_000_000, 500_000_000, 1e7))
        await wait_until(pilot, lambda: "50% of 476.8 MiB" in screen_text(pilot))
        await pilot.press("escape")
        await ask(pilot, "Capital?")
        assert "small:1b downloading: 50%" in screen_text(pilot)
        app.chat.post_message(DownloadEnded("small:1b", Path("small.gguf"), None))
        await wait_until(pilot, lambda: "small:1b is on this machine now" in screen_text(pilot))
        assert "50%" not in screen_text(pilot)


@pytest.mark.slow
async def test_a_name_that_stands_for_nothing_is_told(open_app: OpenApp) -> None:
    async with open_app().run_test(size=(120, 36), notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
        await say(pilot, "/model smollm3:999b")
        await wait_until(pilot, lambda: "smollm3:999b" in screen_text(pilot) and "no model" in screen_text(pilot))


@pytest.mark.slow
async def test_switching_ends_the_process_of_the_model_before(smollm2: Path, smollm2_q2: Path, store: Store) -> None:
    app = ChatApp(open_model, Wanted(smollm2, Options(n_ctx=512)), store)
    async with app.run_test(size=(100, 36), notifications=True) as pilot:
        await wait_until(pilot, lambda: app.chat.model is not None)
        first = app.chat.model
        assert isinstance(first, ModelProcess)
        assert psutil.Process(first.pid).memory_info().rss > 50_000_000
        await say(pilot, f"/model {smollm2_q2}")
        await wait_until(pilot, lambda: app.chat.model not in (None, first))
        assert not psutil.pid_exists(first.pid)
    app.close()
