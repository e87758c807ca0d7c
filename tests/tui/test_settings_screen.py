"""The settings of a chat: fields and values, what is refused, what a load takes, presets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from localllm import paths
from localllm.chat import presets
from localllm.chat.presets import Preset
from localllm.chat.settings import ENGINE, SAMPLING
from localllm.chat.store import Store
from localllm.tui.form import FIELDS, OF_NAME, placeholder, settled, texts
from localllm.tui.screens.settings import SettingsScreen
from tests.tui.driving import OpenApp, ask, only_chat, say, screen_text, shows, type_at_once, wait_until
from tests.tui.fake import INFO, PLAN, Garage
from tests.tui.pictures import check


def test_fields_say_what_a_chat_has_and_what_is_loaded() -> None:
    values = texts({SAMPLING: {"temperature": 0.2}, ENGINE: {"n_ctx": 4096}}, PLAN)
    assert (values["temperature"], values["top_k"], values["n_ctx"]) == ("0.2", "", "4096")
    assert (values["kv_type"], values["flash_attention"], values["threads"]) == ("f16", "on", "2")


def test_what_is_as_it_was_needs_no_load_and_leaves_nothing_behind() -> None:
    found, wrong = settled(texts({}, PLAN), PLAN)
    assert wrong == {}
    assert found is not None
    assert found.options == PLAN.options
    assert found.into({"model": "m", SAMPLING: {"temperature": 1}}) == {"model": "m"}


def test_what_differs_is_kept_with_the_chat() -> None:
    values = texts({}, PLAN) | {"temperature": "0.5", "n_ctx": "4,096", "flash_attention": "auto", "seed": "7"}
    found, _ = settled(values | {"max_tokens": "1,000", "stop": "###"}, PLAN)
    assert found is not None
    assert found.options == replace(PLAN.options, n_ctx=4096, flash_attention=None)
    assert found.into({SAMPLING: {"stop": ["x"], "dry_multiplier": 0.8}}) == {
        SAMPLING: {"dry_multiplier": 0.8, "temperature": 0.5, "seed": 7, "max_tokens": 1000, "stop": ["###"]},
        ENGINE: {"n_ctx": 4096, "flash_attention": "auto"},
    }


def test_what_the_chat_has_of_its_own_stays_while_it_is_loaded_so_and_goes_with_an_empty_field() -> None:
    loaded = replace(PLAN, options=replace(PLAN.options, n_ctx=4096))
    values = texts({ENGINE: {"n_ctx": 4096}}, loaded)
    found, _ = settled(values, loaded, {"n_ctx": 4096})
    assert found is not None
    assert (found.engine, found.options) == ({"n_ctx": 4096}, loaded.options)
    emptied, _ = settled(values | {"n_ctx": ""}, loaded, {"n_ctx": 4096})
    assert emptied is not None
    assert emptied.engine == {}


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("temperature", "hot", "a number, not 'hot'"),
        ("temperature", "-1", "temperature"),
        ("top_p", "3", "not between 0 and 1"),
        ("seed", "1.5", "a whole number"),
        ("max_tokens", "-1", "0 for no limit"),
        ("max_tokens", "many", "a whole number"),
        ("stop", "[]", 'several as ["one", "two"]'),
        ("n_ctx", "-5", "counts"),
        ("kv_type", "q9", "one of f32"),
        ("threads", "9999", "512"),
        ("flash_attention", "maybe", "auto, on or off"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_words(field: str, text: str, said: str) -> None:
    found, wrong = settled(texts({}, PLAN) | {field: text}, PLAN)
    assert found is None
    assert list(wrong) == [field]
    assert said in wrong[field]


def test_an_empty_field_says_what_the_model_recommends() -> None:
    info = replace(INFO, sampling={"temperature": 0.2, "top_k": 40, "top_p": 0.949999988079071, "seed": 3})
    said = {field.name: placeholder(field, info) for field in FIELDS}
    assert said["temperature"] == "as the model recommends: 0.2"
    assert (said["top_k"][-4:], said["top_p"][-6:]) == (": 40", ": 0.95")
    assert said["min_p"] == "as the model recommends"
    assert said["seed"] == "another one each time"
    assert said["max_tokens"] == "until the reply ends"
    assert placeholder(OF_NAME["max_tokens"], info, 1000).startswith("1,000, as --max-tokens says")


def test_stop_texts_stand_in_their_field_as_they_are_written() -> None:
    for texts_kept, written in ((["###"], "###"), (["a", "b"], '["a", "b"]'), (["7"], "7")):
        values = texts({SAMPLING: {"stop": texts_kept}}, PLAN)
        assert values["stop"] == written
        found, _ = settled(values, PLAN)
        assert found is not None
        assert found.sampling == {"stop": texts_kept}


async def open_settings(pilot: Pilot[None]) -> None:
    await ask(pilot, "Capital of France?")
    await pilot.press("f7")
    await wait_until(pilot, lambda: "Settings of this chat" in screen_text(pilot))


def write(pilot: Pilot[None], field: str, text: str) -> None:
    pilot.app.screen.query_one(f"#{field}", Input).value = text


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 30), (160, 36)])
async def test_a_picture_of_the_settings(open_app: OpenApp, size: tuple[int, int]) -> None:
    async with open_app().run_test(size=size, notifications=True) as pilot:
        await open_settings(pilot)
        pilot.app.screen._load_s = 0.6  # type: ignore[attr-defined]
        write(pilot, "temperature", "0.2")
        write(pilot, "n_ctx", "16384")
        await wait_until(pilot, lambda: "the model loads again" in screen_text(pilot))
        check(pilot, "settings")


@pytest.mark.slow
async def test_settings_are_used_and_kept_and_only_what_must_be_is_loaded(open_app: OpenApp, store: Store) -> None:
    garage = Garage()
    app = open_app(garage=garage)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        write(pilot, "temperature", "0.2")
        await pilot.press("enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, SettingsScreen))
        assert app.chat.sampling.temperature == 0.2
        (entry,) = store.chats()
        await wait_until(pilot, lambda: store.load(entry.id).settings.get(SAMPLING) == {"temperature": 0.2})
        assert len(garage.models) == 1
        await pilot.press("f7")
        await wait_until(pilot, lambda: isinstance(app.screen, SettingsScreen))
        write(pilot, "n_ctx", "4096")
        await wait_until(pilot, lambda: "−100.0 MiB: fits" in screen_text(pilot))
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[1].wanted.options.n_ctx == 4096


@pytest.mark.slow
async def test_a_wrong_value_cannot_be_used(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        write(pilot, "top_p", "3")
        await wait_until(pilot, lambda: "Top p: " in screen_text(pilot))
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, SettingsScreen)
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, SettingsScreen))
        assert SAMPLING not in app.chat.conversation.settings


@pytest.mark.slow
async def test_the_first_field_has_the_focus_and_what_is_not_kept_is_named(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        first = next(widget for widget in app.screen.focus_chain)
        assert app.screen.focused is first
        write(pilot, "top_p", "3")
        write(pilot, "preset", "mine")
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "Not kept: mend Top p first." in screen_text(pilot))


@pytest.mark.slow
async def test_a_reply_ends_after_the_most_tokens_of_its_chat(open_app: OpenApp, store: Store) -> None:
    app = open_app(max_tokens=1000)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        assert "1,000, as --max-tokens says" in app.screen.query_one("#max_tokens", Input).placeholder
        write(pilot, "max_tokens", "2")
        await pilot.press("enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, SettingsScreen))
        await ask(pilot, "And of Italy?")
        reply = only_chat(store).path()[-1]
        assert reply.stats is not None
        assert (reply.stats.stop_reason, reply.stats.completion_tokens) == ("length", 2)
        await say(pilot, "/set")
        await shows(pilot, "max_tokens = 2")


@pytest.mark.slow
async def test_a_preset_is_kept_and_taken(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        await pilot.press("ctrl+l")
        await wait_until(pilot, lambda: "There is no preset" in screen_text(pilot))
        write(pilot, "temperature", "0.1")
        write(pilot, "preset", "precise")
        await pilot.press("ctrl+s")
        await wait_until(pilot, lambda: "Kept as precise." in screen_text(pilot))
        assert presets.read(paths.presets_file()) == {"precise": Preset("", {"temperature": 0.1}, {})}
        write(pilot, "temperature", "")
        await pilot.press("ctrl+l")
        await wait_until(pilot, lambda: app.screen.query_one("#temperature", Input).value == "0.1")


@pytest.mark.slow
async def test_what_became_of_a_preset_hides_no_field(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await open_settings(pilot)

        def first_fields() -> list[str]:
            return [line[2:] for line in screen_text(pilot).splitlines()[1:9]]

        before = first_fields()
        assert "Temperature" in before[0]
        write(pilot, "preset", "mine")
        await pilot.press("ctrl+s")
        await shows(pilot, "Kept as mine. Enter uses it.")
        assert first_fields() == before
        assert "nothing has to be loaded again" in screen_text(pilot)
        await pilot.press(*"0.3")
        await wait_until(pilot, lambda: "Kept as" not in screen_text(pilot), "what was said of the form before it")


@pytest.mark.slow
async def test_enter_in_the_preset_field_takes_another_preset_and_then_uses_it(open_app: OpenApp) -> None:
    presets.keep(paths.presets_file(), "cold", Preset("", {"temperature": 0.1}, {}))
    app = open_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        app.screen.query_one("#preset", Input).focus()
        write(pilot, "preset", "cold")
        await pilot.press("enter")
        await shows(pilot, "The form says what cold does. Enter uses it.")
        assert app.screen.query_one("#temperature", Input).value == "0.1"
        write(pilot, "preset", "colder")
        await pilot.press("enter")
        await shows(pilot, "There is no preset 'colder'.")
        write(pilot, "temperature", "0.05")
        await pilot.press("ctrl+s")
        await shows(pilot, "Kept as colder. Enter uses it.")
        await pilot.press("enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, SettingsScreen))
        assert app.chat.sampling.temperature == 0.05


@pytest.mark.slow
async def test_keys_between_tabs_go_to_their_fields_though_all_come_at_once(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        type_at_once(pilot, "7", "tab", "8", "down", *"0.9", "tab", *"0.01", "up", *"0.5")
        wanted = {"temperature": "7", "top_k": "8", "top_p": "0.5", "min_p": "0.01"}
        fields = {name: app.screen.query_one(f"#{name}", Input) for name in wanted}
        await wait_until(pilot, lambda: {name: field.value for name, field in fields.items()} == wanted)


@pytest.mark.slow
async def test_a_preset_is_kept_under_the_whole_name_and_taken_by_it_however_fast_it_is_written(
    open_app: OpenApp,
) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        write(pilot, "temperature", "0.1")
        app.screen.query_one("#preset", Input).focus()
        await pilot.pause()
        type_at_once(pilot, *"cold", "ctrl+s")
        await shows(pilot, "Kept as cold. Enter uses it.")
        write(pilot, "preset", "")
        write(pilot, "temperature", "")
        await pilot.pause()
        type_at_once(pilot, *"cold", "ctrl+l")
        await shows(pilot, "The form says what cold does.")
        assert app.screen.query_one("#temperature", Input).value == "0.1"


@pytest.mark.slow
async def test_up_and_down_move_in_the_system_prompt_before_they_leave_it(open_app: OpenApp) -> None:
    app = open_app()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await open_settings(pilot)
        area = app.screen.query_one("#system", TextArea)
        area.text = "one\ntwo"
        await pilot.press("up")  # from the first field to the last
        assert app.screen.focused is app.screen.query_one("#preset")
        await pilot.press("up")
        assert app.screen.focused is area
        await pilot.press("down")
        assert (app.screen.focused, area.cursor_location[0]) == (area, 1)
        await pilot.press("down")
        assert app.screen.focused is app.screen.query_one("#preset")
