"""A chat goes on with the model it was used with, loaded as it was; opening it loads nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.chat.conversation import Conversation
from localllm.chat.settings import ENGINE, MODEL
from localllm.chat.store import Store
from localllm.cli.chat import open_model
from localllm.errors import BadModelFile, LocalLLMError
from localllm.runtime import apart
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Plan
from localllm.tui.app import ChatApp
from localllm.tui.loader import Wanted, options_of_another
from localllm.tui.messages import ChatOpened, OwnModelWanted
from localllm.tui.own_model import OwnModel, Present, as_used, chosen, differs, find_own, label_of, look, planned, told
from localllm.tui.widgets.offer_line import OfferLine
from tests.tui.driving import Driver, OpenApp, ask, idle, only_chat, say, screen_text, shows, wait_until
from tests.tui.fake import GIB, PLAN, Garage, Script
from tests.tui.test_app import PARIS, past_chat

PRESENT = Present(Wanted(PLAN.path, PLAN.options), PLAN, 1.0)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other-3b.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan | LocalLLMError], None]:
    """Sets what is found when a load is planned; at first it takes 300 MiB more."""
    answer: list[Plan | LocalLLMError] = []

    def plan(path: Path, options: Options) -> Plan:
        found = answer[-1]
        if isinstance(found, LocalLLMError):
            raise found
        return replace(found, path=path, options=replace(options, n_ctx=options.n_ctx or 4096))

    monkeypatch.setattr(apart, "plan_apart", plan)
    answer.append(taking(300 << 20))
    return answer.append


def taking(more: int) -> Plan:
    (cpu,) = PLAN.devices
    return replace(PLAN, devices=(replace(cpu, kv=cpu.kv + more),))


def chat_of(store: Store, settings: dict[str, object]) -> Conversation:
    """A chat on disk with these settings."""
    chat = past_chat(store)
    chat.settings = dict(settings)
    store.set_settings(chat.id, settings)
    return chat


def opened(pilot: Driver, store: Store, chat: Conversation) -> ChatApp:
    app = pilot.app
    assert isinstance(app, ChatApp)
    app.chat.post_message(ChatOpened(store.load(chat.id)))
    return app


def test_only_what_a_chat_has_of_its_own_can_differ(other: Path) -> None:
    usual = Options()
    assert look("id", {}, usual, PRESENT) is None
    assert look("id", {ENGINE: {"n_ctx": PLAN.n_ctx, "flash_attention": "auto"}}, usual, PRESENT) is None
    rounded = Present(Wanted(PLAN.path, Options(n_ctx=8000)), PLAN, 0)
    assert look("id", {ENGINE: {"n_ctx": 8000}}, usual, rounded) is None
    offer = look("id", {ENGINE: {"n_ctx": 2048, "threads": 2}}, usual, PRESENT)
    assert offer is not None
    assert offer.wanted == Wanted(PLAN.path, Options(n_ctx=2048, threads=2))
    offer = look("id", {MODEL: str(other)}, Options(kv_disk=5), PRESENT)
    assert offer is not None
    assert (offer.name, offer.wanted) == ("other-3b", Wanted(other, Options(kv_disk=5)))


def test_a_model_that_is_gone_is_told_with_the_way_to_get_it() -> None:
    offer = look("id", {MODEL: "qwen3:0.6b"}, Options(), PRESENT)
    assert offer is not None
    assert not offer.can_load
    words = told(offer, "fake-1b", lost=False)
    assert "qwen3:0.6b is in the catalogue but not on this machine.\n" in words
    assert "localllm pull qwen3:0.6b" in words
    assert words.endswith("\nIt goes on with fake-1b. Esc puts this away")


def test_settings_that_cannot_be_read_are_told(other: Path) -> None:
    for engine in ({"n_ctx": "many"}, {"n_ctx": -1}, {"flash_attention": "perhaps"}, {"colour": 1}, [1]):
        offer = look("id", {MODEL: str(other), ENGINE: engine}, Options(), PRESENT)
        assert offer is not None
        assert "F7 in the app" in told(offer, "fake-1b", lost=False), engine


def test_a_template_that_was_given_does_not_replace_that_of_another_model(smollm2: Path, tmp_path: Path) -> None:
    usual = Options(chat_template="{{ messages }}", n_ctx=512)
    without = tmp_path / "without.gguf"
    key, value = b"general.architecture", b"llama"
    sizes = struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, len(key)), struct.pack("<IQ", 8, len(value))
    without.write_bytes(sizes[0] + key + sizes[1] + value)
    assert options_of_another(usual, smollm2) == Options(n_ctx=512)
    assert options_of_another(usual, without) == usual
    assert options_of_another(Options(), tmp_path / "nothing.gguf") == Options()
    assert find_own({MODEL: str(smollm2)}, usual, without).options.chat_template == ""
    assert find_own({MODEL: str(smollm2)}, usual, smollm2).options == usual
    assert find_own({MODEL: str(smollm2)}, usual, None).options == usual


def test_what_a_load_takes_is_told(other: Path, plans: Callable[[Plan | LocalLLMError], None]) -> None:
    offer = planned(OwnModel("id", "other-3b", Wanted(other)), PRESENT)
    assert told(offer, "fake-1b", lost=False) == (
        "This chat used other-3b, 4,096 tokens. The next message loads it (+300.0 MiB, about 1.0 s). "
        "Enter loads it now · Esc keeps fake-1b"
    )
    assert "What fake-1b has computed of other chats is lost" in told(offer, "fake-1b", lost=True)
    unknown = planned(OwnModel("id", "other-3b", Wanted(other)), replace(PRESENT, plan=None))
    assert "loads it (1.20 GiB)." in told(unknown, "fake-1b", lost=False)
    plans(taking(20 * GIB))
    large = planned(OwnModel("id", "other-3b", Wanted(other)), PRESENT)
    assert not large.can_load
    assert "does not fit now. It goes on with fake-1b." in told(large, "fake-1b", lost=False)
    plans(BadModelFile("It is truncated.", hint="Fetch it again."))
    broken = planned(OwnModel("id", "other-3b", Wanted(other)), PRESENT)
    assert "It is truncated.\nFetch it again.\nIt goes on with fake-1b." in told(broken, "fake-1b", lost=False)


def test_a_chat_keeps_what_it_was_used_with_last() -> None:
    settings = {MODEL: "before", "sampling": {"seed": 1}, ENGINE: {"n_ctx": PLAN.n_ctx, "kv_type": "q8_0"}}
    after = as_used(settings, "fake", Options(), PRESENT)
    assert after == {MODEL: "fake", "sampling": {"seed": 1}, ENGINE: {"n_ctx": PLAN.n_ctx}}
    assert as_used({ENGINE: {"n_ctx": "many"}}, "fake", Options(), PRESENT) == {MODEL: "fake"}


def test_a_model_is_kept_by_its_name_or_its_whole_path(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert label_of(smollm2) == "smollm2:135m"
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert label_of(Path("mine.gguf")) == str(tmp_path / "mine.gguf")
    assert label_of(Path("gone.gguf")) == str(tmp_path / "gone.gguf")


@pytest.mark.slow
async def test_a_chat_is_shown_at_once_and_the_next_message_loads_its_model(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    chat = chat_of(store, {MODEL: str(other), ENGINE: {"n_ctx": 4096}})
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        app = opened(pilot, store, chat)
        await shows(pilot, "An old answer.")
        await shows(pilot, "This chat used other-3b, 4,096 tokens. The next message loads it (+300.0 MiB")
        assert len(garage.models) == 1
        await ask(pilot, "Go on")
        assert garage.models[0].closed
        assert garage.models[1].wanted == Wanted(other, Options(n_ctx=4096))
        assert [message.content for message in garage.models[1].asked[0]][-1] == "Go on"
        assert "This chat used" not in screen_text(pilot)
        assert app.chat.conversation.settings == {MODEL: str(other), ENGINE: {"n_ctx": 4096}}


@pytest.mark.slow
async def test_enter_in_the_empty_prompt_loads_it_now(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    chat = chat_of(store, {MODEL: str(other)})
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        await pilot.press("enter")
        opened(pilot, store, chat)
        await shows(pilot, "Enter loads it now")
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[1].wanted.path == other
        await wait_until(pilot, lambda: "This chat used" not in screen_text(pilot))
        assert len(only_chat(store).nodes) == 2


@pytest.mark.slow
async def test_a_click_on_the_line_loads_it_but_not_while_a_reply_is_made(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    chat = chat_of(store, {MODEL: str(other)})
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        app = opened(pilot, store, chat)
        await shows(pilot, "Enter loads it now")
        await pilot.press("escape")
        garage.script.piece_s = 0.2
        await say(pilot, "Go on")
        await shows(pilot, "writing")
        app.chat.post_message(OwnModelWanted())
        await pilot.pause()
        assert not idle(pilot)
        await pilot.press("escape")
        await wait_until(pilot, lambda: idle(pilot))
        assert len(garage.models) == 1
        second = chat_of(store, {MODEL: str(other)})
        opened(pilot, store, second)
        await shows(pilot, "Enter loads it now")
        await pilot.click(OfferLine)
        await wait_until(pilot, lambda: len(garage.models) == 2)
        assert garage.models[1].wanted.path == other


@pytest.mark.slow
async def test_escape_keeps_what_is_loaded_which_then_is_the_model_of_the_chat(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    chat = chat_of(store, {MODEL: str(other), ENGINE: {"n_ctx": 4096}})
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        opened(pilot, store, chat)
        await shows(pilot, "Esc keeps fake-1b")
        await pilot.press("escape")
        await wait_until(pilot, lambda: "This chat used" not in screen_text(pilot))
        assert store.load(chat.id).settings[MODEL] == str(other)
        await ask(pilot, "Go on")
        assert len(garage.models) == 1
        kept = {MODEL: str(Path("fake-1b.gguf").absolute())}
        await wait_until(pilot, lambda: store.load(chat.id).settings == kept)


@pytest.mark.slow
async def test_a_chat_whose_model_is_gone_stays_readable_and_goes_on(open_app: OpenApp, store: Store) -> None:
    chat = chat_of(store, {MODEL: "qwen3:0.6b"})
    async with open_app().run_test(size=(120, 36), notifications=True) as pilot:
        opened(pilot, store, chat)
        await shows(pilot, "An old answer.")
        await shows(pilot, "localllm pull qwen3:0.6b")
        await pilot.press("enter")
        await ask(pilot, "Go on")
        assert PARIS in screen_text(pilot)
        assert "This chat used" not in screen_text(pilot)


@pytest.mark.slow
async def test_what_does_not_fit_is_not_loaded(
    open_app: OpenApp, store: Store, other: Path, plans: Callable[[Plan], None]
) -> None:
    plans(taking(20 * GIB))
    chat = chat_of(store, {MODEL: str(other)})
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        opened(pilot, store, chat)
        await shows(pilot, "takes 20.9 GiB and does not fit")
        await pilot.press("enter")
        await ask(pilot, "Go on")
        assert len(garage.models) == 1


@pytest.mark.slow
async def test_a_model_that_does_not_load_is_not_tried_again(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    chat = chat_of(store, {MODEL: str(other)})
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        opened(pilot, store, chat)
        await shows(pilot, "Enter loads it now")
        garage.script.load_error = BadModelFile("It is truncated.")
        await say(pilot, "Go on")
        await shows(pilot, "It is truncated.")
        await wait_until(pilot, lambda: idle(pilot))
        garage.script.load_error = None
        await pilot.press("f5")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        await pilot.press("ctrl+r")
        await shows(pilot, PARIS)
        assert garage.models[1].wanted.path == PLAN.path
        assert [node.text for node in only_chat(store).path()][2] == "Go on"


@pytest.mark.slow
async def test_leafing_through_chats_shows_each_its_own(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    chat, plain = chat_of(store, {MODEL: str(other)}), chat_of(store, {})
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        for _ in range(2):
            opened(pilot, store, chat)
            await shows(pilot, "This chat used other-3b, 4,096 tokens")
            opened(pilot, store, plain)
            await wait_until(pilot, lambda: "This chat used" not in screen_text(pilot))
        assert len(garage.models) == 1
        await pilot.press("ctrl+n")
        await ask(pilot, "Capital?")
        assert len(garage.models) == 1


@pytest.mark.slow
async def test_a_model_that_is_chosen_is_loaded_once_as_the_chat_has_it_loaded(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    chat = chat_of(store, {MODEL: str(PLAN.path.absolute()), ENGINE: {"n_ctx": 512}})
    garage = Garage()
    app = open_app(garage=garage, conversation=store.load(chat.id), options=Options(n_ctx=512))
    app.chat.resuming._usual = Options()
    async with app.run_test(size=(120, 36), notifications=True) as pilot:
        await ask(pilot, "Go on")
        await say(pilot, f"/model {other}")
        await wait_until(pilot, lambda: len(garage.models) == 2 and app.chat.model is not None)
        assert garage.models[1].wanted == Wanted(other, Options(n_ctx=512))
        await ask(pilot, "Go on")
        assert "This chat used" not in screen_text(pilot)
        await say(pilot, f"/model {other}")
        await shows(pilot, "is loaded already")
        await ask(pilot, "Go on")
        assert len(garage.models) == 2
        app.chat.chats.new()
        await say(pilot, f"/model {other}")
        await wait_until(pilot, lambda: len(garage.models) == 3)
        assert garage.models[2].wanted == Wanted(other, Options()), "a chat without settings loads as usual"


@pytest.mark.slow
async def test_a_chosen_model_that_does_not_load_is_not_offered(
    open_app: OpenApp, store: Store, other: Path, plans: object
) -> None:
    garage = Garage()
    async with open_app(garage=garage).run_test(size=(120, 36), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        garage.script.load_error = BadModelFile("It is truncated.")
        await say(pilot, f"/model {other}")
        await shows(pilot, "It is truncated.")
        garage.script.load_error = None
        await pilot.press("f5")
        await wait_until(pilot, lambda: len(garage.models) == 2)
        await ask(pilot, "And then?")
        assert [model.wanted.path for model in garage.models] == [PLAN.path, PLAN.path]


def test_how_a_model_is_loaded_for_a_chat_that_chose_it(other: Path) -> None:
    settings = {ENGINE: {"n_ctx": 2048}}
    own = chosen(other, settings, Options(kv_disk=5))
    assert own == Wanted(other, Options(n_ctx=2048, kv_disk=5))
    assert chosen(other, {ENGINE: {"n_ctx": "many"}}, Options()) == Wanted(other)
    assert differs(settings, own, PRESENT)
    same = Wanted(PLAN.path, Options(n_ctx=PLAN.n_ctx))
    assert not differs({ENGINE: {"n_ctx": PLAN.n_ctx}}, same, PRESENT)
    assert differs({}, Wanted(PLAN.path), PRESENT), "it was loaded for another chat"


@pytest.mark.slow
async def test_a_larger_context_stays_with_the_chat(open_app: OpenApp, store: Store) -> None:
    app = open_app(options=Options(n_ctx=800))
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        app.chat.loaded.load_with(Options(n_ctx=1600))
        await wait_until(pilot, lambda: only_chat(store).settings.get(ENGINE) == {"n_ctx": 1600})


@pytest.mark.slow
async def test_a_real_chat_goes_back_to_its_model_and_to_what_was_computed(
    smollm2: Path, smollm2_q2: Path, store: Store
) -> None:
    usual = Options(n_ctx=1024, kv_disk=1 << 30)
    text = "The lighthouse keeper Ada lives on the island of Fjell with a cat called Mika. " * 2
    sampling = Sampling(temperature=0)

    def app_with(path: Path, chat: Conversation | None = None) -> ChatApp:
        return ChatApp(open_model, Wanted(path, usual), store, sampling=sampling, conversation=chat)

    app = app_with(smollm2)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await ask(pilot, f"{text}Name the cat.")
    app.close()
    chat = only_chat(store)
    assert chat.settings == {MODEL: "smollm2:135m"}
    before = chat.path()[-1].stats
    assert before is not None
    assert 32 < before.prompt_tokens < 128, "short chats count, too"
    app = app_with(smollm2_q2, chat)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await wait_until(pilot, lambda: app.chat.model is not None)
        await shows(pilot, "This chat used smollm2:135m, 1,024 tokens.")
        await ask(pilot, "And the keeper?")
        model = app.chat.model
        assert model is not None
        assert model.info.path == smollm2
        stats = app.chat.conversation.path()[-1].stats
        assert stats is not None
        assert stats.cached_tokens >= before.prompt_tokens
    app.close()


@pytest.mark.slow
async def test_a_chat_knows_its_model_before_its_first_reply_ends(open_app: OpenApp, store: Store) -> None:
    async with open_app(Script(piece_s=0.2)).run_test(size=(120, 36), notifications=True) as pilot:
        await say(pilot, "Capital?")
        await wait_until(pilot, lambda: store.chats() and MODEL in only_chat(store).settings)
        assert only_chat(store).path()[-1].state == "writing"
