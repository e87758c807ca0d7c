"""The hub in the list of models: searched, downloaded from, stopped and resumed, while the chat goes on."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants
from make_tiny_models import TinyLlama, write_checkpoint
from textual import on
from textual.app import App
from textual.widgets import Input, OptionList

from localllm.library.pulling import download, partial
from localllm.tui import switching
from localllm.tui.downloads import Downloads
from localllm.tui.messages import DownloadEnded, DownloadMoved, HubOffered, ModelsListed
from localllm.tui.models import Choice
from localllm.tui.screens.models import ModelsScreen
from tests.library.hub_server import HubServer
from tests.library.pulls import put_models
from tests.tui.driving import Driver, OpenApp, ask, screen_text, shows, wait_until
from tests.tui.fake import GIB, INFO, Script
from tests.tui.pictures import check
from tests.tui.test_models import LIST, crashed

pytestmark = pytest.mark.slow

LONG = "an-organisation-with-a-long-name/tiny-finetune-with-an-extremely-long-name-Instruct-2509-v3-GGUF"


class Host(App[None]):
    """Nothing but the list of models, over downloads that are real."""

    CSS_PATH = Path(switching.__file__).with_name("localllm.tcss")

    def __init__(self) -> None:
        super().__init__()
        self.animation_level = "none"
        self.downloads = Downloads(self.post_message, crashed)
        self.models = ModelsScreen(self.downloads, str(INFO.path), GIB, crashed)
        self.chosen: Choice | None = None

    def on_mount(self) -> None:
        self.push_screen(self.models, self.choose)
        self.models.post_message(ModelsListed(LIST))

    def choose(self, choice: Choice | None) -> None:
        self.chosen = choice

    @on(DownloadMoved)
    def moved(self, event: DownloadMoved) -> None:
        self.models.moved(event)

    @on(DownloadEnded)
    def ended(self, event: DownloadEnded) -> None:
        self.downloads.ended()
        self.models.ended(event)


@pytest.fixture
def filled(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """A hub with repos of several kinds, and a machine that has none of them."""
    for module in (partial, download):
        monkeypatch.setattr(module, "BLOCK", 10_000)
    monkeypatch.setattr(download, "SPAN", 30_000)
    monkeypatch.setattr(download, "LEAST", 30_000)
    told = {"downloads": 123_456, "tags": ["license:apache-2.0"]}
    names = [f"m-{quantization}.gguf" for quantization in ("Q2_K", "Q4_K_M", "Q8_0")]
    hub.add("org/tiny-GGUF", put_models(tmp_path / "g", *names, size=2_000_000)).about = dict(told)
    folder = put_models(tmp_path / "l", "m-Q4_K_M.gguf", "x/a-name-that-nobody-can-remember-v2-final.gguf")
    hub.add(LONG, folder).about = {"downloads": 5_432, "tags": ["license:llama3.2"]}
    gated = put_models(tmp_path / "s", "m-Q4_K_M.gguf")
    hub.add("org/tiny-secret-GGUF", gated, gate="gated").about = {"downloads": 999, "gated": "manual"}
    about = {"config": {"architectures": ["LlamaForCausalLM"]}, "safetensors": {"parameters": {}, "total": 600_000}}
    hub.add("org/tiny", write_checkpoint(tmp_path / "c", TinyLlama())).about = {"downloads": 10, **about}
    return hub


async def search(pilot: Driver, words: str) -> None:
    """Write into the filter, and search the hub for it."""
    await wait_until(pilot, lambda: pilot.app.screen.query(OptionList) and chosen(pilot))
    pilot.app.screen.query_one(Input).value = words
    await pilot.press("f3")


def chosen(pilot: Driver) -> str:
    """The row that is chosen, as it is drawn."""
    option = pilot.app.screen.query_one(OptionList).highlighted_option
    return str(option.prompt) if option is not None else ""


def nobody_searches() -> bool:
    return all(thread.name != "search the hub" for thread in threading.enumerate())


async def choose(pilot: Driver, holds: Callable[[str], bool]) -> None:
    """Go down to a row."""
    options = pilot.app.screen.query_one(OptionList)
    for _ in range(options.option_count):
        if holds(chosen(pilot)):
            return
        await pilot.press("down")
    pytest.fail(f"no such row:\n{screen_text(pilot)}")


@pytest.mark.parametrize("size", [(80, 32), (160, 36)])
async def test_a_picture_of_what_the_hub_has(filled: HubServer, size: tuple[int, int]) -> None:
    async with Host().run_test(size=size) as pilot:
        await search(pilot, "tiny")
        await wait_until(pilot, nobody_searches)
        await shows(pilot, "converted from")
        check(pilot, "models-of-the-hub")


async def test_where_nothing_matches_enter_searches_the_hub(filled: HubServer) -> None:
    async with Host().run_test(size=(80, 40)) as pilot:
        await shows(pilot, "fake-1b")
        await pilot.press(*"tiny")
        await shows(pilot, "search the hub for 'tiny'")
        assert "fake-1b" not in screen_text(pilot)
        await pilot.press("enter")
        await shows(pilot, "On the hub: 4 repos with 'tiny'")
        await wait_until(pilot, lambda: "Q2_K" in chosen(pilot))
        await pilot.press("tab")
        assert "final.gguf" in chosen(pilot) or "Q4_K_M" in chosen(pilot)
        await pilot.press("shift+tab")
        assert "Q2_K" in chosen(pilot)


async def test_delete_edits_the_filter_where_no_download_is_chosen(filled: HubServer) -> None:
    async with Host().run_test(size=(80, 40)) as pilot:
        await shows(pilot, "fake-1b")
        await pilot.press("f3")
        await shows(pilot, "Write what to search the hub for.")
        await pilot.press(*"xtiny", "home", "delete")
        await shows(pilot, "search the hub for 'tiny'")


async def test_a_newer_search_and_esc_end_the_one_before(filled: HubServer) -> None:
    release = filled.held["tiny"] = threading.Event()
    app = Host()
    async with app.run_test(size=(80, 40)) as pilot:
        await search(pilot, "tiny")
        await shows(pilot, "searching the hub for 'tiny'… Esc stops")
        await pilot.press("escape")
        assert app.screen is app.models
        await shows(pilot, "search the hub for 'tiny'")
        await pilot.press("f3")
        await shows(pilot, "searching the hub for 'tiny'")
        await search(pilot, "secret")
        await shows(pilot, "org/tiny-secret-GGUF")
        release.set()
        await wait_until(pilot, nobody_searches)
        assert "org/tiny-GGUF" not in screen_text(pilot)
        await pilot.press("escape")
        assert app.screen is not app.models


async def test_a_model_of_the_hub_comes_is_stopped_resumed_and_opened(filled: HubServer) -> None:
    app = Host()
    async with app.run_test(size=(80, 40)) as pilot:
        await search(pilot, "tiny")
        await wait_until(pilot, lambda: "Q2_K" in chosen(pilot))
        filled.faults.hang_after = filled.sent + 300_000
        await choose(pilot, lambda row: "Q8_0" in row)
        await pilot.press("enter")
        await shows(pilot, "Enter once more downloads org/tiny-GGUF:Q8_0, 1.9 MiB")
        await pilot.press("down", "up")
        assert "Enter once more" not in screen_text(pilot)
        await pilot.press("enter")
        assert app.downloads.name == ""
        await pilot.press("enter")
        await wait_until(pilot, lambda: re.search("downloading: [1-9].* of 1.9 MiB .*/s", chosen(pilot)))
        assert "Ctrl+X stops it" in screen_text(pilot)
        await pilot.press("ctrl+x")
        await shows(pilot, "org/tiny-GGUF:Q8_0 was stopped. ")
        assert re.search(r"1\.9 MiB, \d+\.\d KiB here", chosen(pilot))
        filled.faults.hang_after = float("inf")
        await pilot.press("enter")
        await shows(pilot, "org/tiny-GGUF:Q8_0 is on this machine now: Enter loads it.")
        assert chosen(pilot).endswith("· here")
        await pilot.press("enter")
        assert app.chosen is not None
        assert app.chosen.path is not None
        served = filled.repos["org/tiny-GGUF"].folder / "m-Q8_0.gguf"
        assert app.chosen.path.read_bytes() == served.read_bytes()


async def test_a_checkpoint_is_converted_while_it_comes(filled: HubServer) -> None:
    app = Host()
    async with app.run_test(size=(80, 40)) as pilot:
        await search(pilot, "tiny")
        await shows(pilot, "converted from")
        await choose(pilot, lambda row: "converted from" in row)
        assert "Enter downloads and converts it" in screen_text(pilot)
        await pilot.press("enter", "enter")
        await wait_until(pilot, lambda: "org/tiny is on this machine now" in screen_text(pilot))
        await pilot.press("enter")
        assert app.chosen is not None
        assert app.chosen.path is not None
        assert app.chosen.path.name == "tiny-Q4_K_M.gguf"


async def test_what_is_gated_is_told_and_the_list_stays(filled: HubServer) -> None:
    app = Host()
    async with app.run_test(size=(80, 40)) as pilot:
        await search(pilot, "secret")
        await shows(pilot, "gated: ask for access on its page")
        await wait_until(pilot, lambda: "Q4_K_M" in chosen(pilot))
        await pilot.press("enter", "enter")
        await shows(pilot, "Access to org/tiny-secret-GGUF")
        assert "Log in with" in screen_text(pilot)
        assert app.downloads.name == ""
        await pilot.press("x")
        assert "Access to" not in screen_text(pilot)


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "answers 401"), (404, "answers 404"), (429, "answers 429. · It is busy")],
)
async def test_a_hub_that_refuses_is_one_line_and_may_be_asked_again(filled: HubServer, status: int, said: str) -> None:
    filled.search_status = status
    async with Host().run_test(size=(160, 40)) as pilot:
        await search(pilot, "tiny")
        await shows(pilot, said)
        filled.search_status = 200
        await pilot.press("f3")
        await shows(pilot, "On the hub: 4 repos")
        assert said not in screen_text(pilot)


async def test_no_hub_and_a_hub_that_is_not_to_be_asked_are_told(
    filled: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Host().run_test(size=(160, 40)) as pilot:
        with monkeypatch.context() as patch:
            patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
            await search(pilot, "tiny")
            await shows(pilot, "(http://127.0.0.1:9) cannot be reached. · Check the network")
        monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
        await pilot.press("f3")
        await shows(pilot, "HF_HUB_OFFLINE forbids to search the hub. · Unset HF_HUB_OFFLINE.")


async def test_a_repo_that_went_away_is_told_in_its_place(filled: HubServer) -> None:
    filled.faults.statuses = [404]
    async with Host().run_test(size=(80, 40)) as pilot:
        await search(pilot, "secret")
        await shows(pilot, "refuses")


async def test_the_chat_goes_on_while_a_model_of_the_hub_comes(
    filled: HubServer, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switching, "choices", lambda: LIST)
    app = open_app(Script())
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await shows(pilot, "fake-1b")
        await pilot.press("f8")
        await search(pilot, "tiny")
        await wait_until(pilot, lambda: "Q2_K" in chosen(pilot))
        filled.faults.hang_after = filled.sent + 300_000
        await pilot.press("enter", "enter")
        await wait_until(pilot, lambda: "downloading:" in chosen(pilot))
        await pilot.press("escape")
        await ask(pilot, "Capital?")
        assert "Paris" in screen_text(pilot)
        assert "org/tiny-GGUF:Q2_K downloading:" in screen_text(pilot)
        await pilot.press("f8")
        await shows(pilot, "↓ org/tiny-GGUF:Q2_K")
        await pilot.press("escape")
        filled.faults.hang_after = float("inf")
        await shows(pilot, "org/tiny-GGUF:Q2_K is on this machine now. F8 loads it.")
        await ask(pilot, "And of Spain?")


async def test_what_the_hub_offers_while_a_letter_is_on_its_way_to_the_filter(filled: HubServer) -> None:
    async with Host().run_test(size=(80, 40)) as pilot:
        await search(pilot, "tiny")
        await wait_until(pilot, nobody_searches)
        await shows(pilot, "converted from")
        screen = pilot.app.screen
        with screen.prevent(Input.Changed):
            screen.query_one(Input).value = "tinys"
        screen.post_message(HubOffered("tiny", "org/tiny", (), None))
        await pilot.pause()
        assert "search the hub for 'tinys'" in screen_text(pilot)


async def test_what_was_selected_is_taken_although_the_list_changed_since(filled: HubServer) -> None:
    app = Host()
    async with app.run_test(size=(80, 40)) as pilot:
        await wait_until(pilot, lambda: pilot.app.screen.query(OptionList) and chosen(pilot))
        options = pilot.app.screen.query_one(OptionList)
        wanted = next(number for number, choice in enumerate(LIST) if choice.path is not None)
        options.post_message(OptionList.OptionSelected(options, options.options[wanted], wanted))
        app.models._choices = ()
        app.models._show()
        await wait_until(pilot, lambda: app.chosen is not None)
        assert app.chosen == LIST[wanted]
