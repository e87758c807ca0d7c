"""Two models side by side: choosing, answering in turn, memory for both or not, stopping, leaving."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from textual.app import App, ComposeResult

from localllm import library
from localllm.chat import attachments
from localllm.chat.attachments import Attachment
from localllm.chat.store import Store
from localllm.cli.chat import open_model
from localllm.errors import Cancelled, DoesNotFit, EngineDied
from localllm.gguf_file import Header, Value
from localllm.measure.comparing import MAX_TOKENS, Answer, Comparison, Contender, Loading, Reading, Request, Said
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.responder import Responder
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Plan
from localllm.tui import background, beside, switching
from localllm.tui.app import ChatApp
from localllm.tui.contest import Contest
from localllm.tui.loader import Wanted
from localllm.tui.models import Choice
from localllm.tui.screens import compare
from localllm.tui.screens.compare import CompareScreen
from localllm.tui.widgets.figures import Figures
from localllm.tui.widgets.question import Question
from localllm.tui.widgets.side import Side
from tests.tui.driving import Driver, OpenApp, ask, say, screen_text, shows, wait_until
from tests.tui.fake import GIB, INFO, PLAN, FakeResponder, Garage, Script
from tests.tui.pictures import check

pytestmark = pytest.mark.slow

OTHER = Path("other-3b.gguf")
LIST = [
    Choice("fake-1b", INFO.path, 700_000_000, "Q4_K_M", 950_000_000),
    Choice("other-3b", OTHER, 2_000_000_000, "Q8_0", 2_400_000_000),
]


class Room:
    """What the plan of another model says: it needs `needed` bytes beside what is free in `PLAN`, 12 GiB."""

    def __init__(self) -> None:
        self.needed = 2 * GIB
        self.asked: list[Options] = []
        self.untaught: set[Path] = set()
        """Models that have no chat template."""

    def header(self, path: Path) -> Header:
        keys: dict[str, Value] = {"general.architecture": "llama", "llama.context_length": 4096}
        if path not in self.untaught:
            keys["tokenizer.chat_template"] = "{{ messages }}"
        return Header(path, 3, 32, keys, (), 0, 700_000_000)

    def plan(self, path: Path, options: Options) -> Plan:
        self.asked.append(options)
        (cpu,) = PLAN.devices
        return replace(PLAN, path=path, options=options, devices=(replace(cpu, weights=self.needed, kv=0, compute=0),))


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """Models that are no files: their plans and headers, and the list of them."""
    found = Room()
    monkeypatch.setattr(beside, "plan_apart", found.plan)
    monkeypatch.setattr(beside, "read_header", found.header)
    monkeypatch.setattr(switching, "choices", lambda: LIST)
    return found


@pytest.fixture
def garage() -> Garage:
    return Garage(others={OTHER: Script(reply="The capital of France is **Lyon**, or Paris.")})


def screen_of(pilot: Driver) -> CompareScreen:
    assert isinstance(pilot.app.screen, CompareScreen)
    return pilot.app.screen


async def compare_with_other(pilot: Driver, key: str = "f8") -> None:
    """Open the comparison and pick the other model for a side."""
    await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
    await pilot.press("f12")
    await wait_until(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
    await pilot.press(key)
    await shows(pilot, "other-3b")
    await pilot.press("down", "enter")
    # Wherever the lines break.
    await wait_until(pilot, lambda: "They answer one after the other" in " ".join(screen_text(pilot).split()))


async def run(pilot: Driver, text: str = "") -> None:
    """Ask both, and wait for the end."""
    if text:
        screen_of(pilot).query_one(Question).insert(text)
    screen_of(pilot).query_one(Question).focus()
    before = screen_of(pilot)._done
    await pilot.press("enter")
    await wait_until(pilot, lambda: screen_of(pilot)._done not in (None, before), "the end of the comparison")


@pytest.mark.parametrize("size", [(80, 40), (160, 40)])
async def test_a_picture_of_the_comparison(
    open_app: OpenApp, garage: Garage, room: Room, size: tuple[int, int]
) -> None:
    async with open_app(garage=garage).run_test(size=size, notifications=True) as pilot:
        await compare_with_other(pilot)
        await shows(pilot, "fits beside the model of the chat")
        check(pilot, "compare-before")
        await run(pilot, "Capital of France?")
        check(pilot, "compare")


async def test_the_second_engine_is_freed_and_the_chat_goes_on_with_its_cache(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "Capital?")
        await compare_with_other(pilot)
        assert screen_of(pilot).query_one(Question).text == "Capital?"
        await run(pilot)
        own, second = garage.models
        assert second.wanted.path == OTHER
        assert second.wanted.options.n_ctx == 4096
        assert second.wanted.options.kv_disk == 0
        assert "part at word 6" in screen_text(pilot)
        sampled = own.sampled
        done = screen_of(pilot)._done
        await pilot.press("enter")  # in the text: the same again
        await wait_until(pilot, lambda: screen_of(pilot)._done not in (None, done), "the second run")
        assert len(garage.models) == 2, "the second engine is kept for the next prompt"
        assert own.sampled == sampled + 1, "memory is looked at once an answer, and not while it is made"
        await pilot.press("escape")
        await wait_until(pilot, lambda: second.closed)
        assert app.screen is app.chat
        assert not own.closed
        await ask(pilot, "And of Italy?")
        assert len(garage.models) == 2
        assert [message.content for message in own.asked[-1]] == ["Capital?", garage.script.reply, "And of Italy?"]


async def test_a_low_and_narrow_terminal_still_shows_both(open_app: OpenApp, garage: Garage, room: Room) -> None:
    async with open_app(garage=garage).run_test(size=(60, 24), notifications=True) as pilot:
        await compare_with_other(pilot)
        await run(pilot, "Capital?")
        lines = screen_text(pilot).splitlines()
        assert any("The capital of France is Paris." in line for line in lines)
        assert any("The capital of France is Lyon, or Paris." in line for line in lines)
        assert any("decode" in line and line.count("tok/s") == 2 for line in lines)
        assert not any("ended" in line for line in lines)
        await pilot.press("tab", "tab", "end")
        await shows(pilot, "ended")


async def test_what_does_not_fit_beside_replaces_the_model_until_the_person_leaves(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    room.needed = 12 * GIB
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        await shows(pilot, "both do not fit")
        await run(pilot, "Capital?")
        own, second = garage.models
        assert own.closed
        assert own.asked
        assert not second.closed
        assert "Lyon" in screen_text(pilot)
        await pilot.press("escape")
        await wait_until(pilot, lambda: len(garage.models) == 3 and app.chat.model is garage.models[2])
        assert second.closed
        assert garage.models[2].wanted.path == INFO.path
        await ask(pilot, "And of Italy?")


async def test_a_message_right_after_a_comparison_waits_for_the_model_of_the_chat(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    room.needed = 12 * GIB
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        await run(pilot, "Capital?")
        _, second = garage.models
        freed, close = threading.Event(), second.close

        def slowly() -> None:
            freed.wait(10)
            close()

        second.close = slowly  # type: ignore[method-assign]
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat)
        await say(pilot, "And of Italy?")
        await wait_until(pilot, lambda: app.chat.busy)
        assert len(garage.models) == 2, "both would not fit: nothing is loaded before the second engine is gone"
        freed.set()
        await wait_until(pilot, lambda: len(garage.models) == 3 and garage.models[2].asked)
        assert second.closed


async def test_another_model_after_an_answer_is_planned_anew_and_the_old_answers_are_not_copied(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        await run(pilot, "Capital?")
        room.needed = 12 * GIB
        await pilot.press("f7")
        await shows(pilot, "Models")
        await pilot.press("end", "enter")
        await shows(pilot, "They answer one after the other")
        assert "Planning" not in screen_text(pilot)
        await pilot.press("c")
        assert app.clipboard == ""
        done = screen_of(pilot)._done
        assert done is None
        await pilot.press("enter")  # the text has the focus
        await wait_until(pilot, lambda: screen_of(pilot)._done is not None)


async def test_who_writes_the_next_question_meanwhile_goes_on_with_it(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    garage.script.reply, garage.script.piece_s = "word " * 40, 0.02
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        screen_of(pilot).query_one(Question).insert("Capital?")
        await pilot.press("enter")
        await shows(pilot, "word word")
        await pilot.press("space", "b")
        await wait_until(pilot, lambda: screen_of(pilot)._done is not None)
        await pilot.press("c")
        assert screen_of(pilot).query_one(Question).text == "Capital? bc"


async def test_what_never_fits_is_told_and_the_model_of_the_chat_stays(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    room.needed = 100 * GIB
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        await shows(pilot, "other-3b.gguf needs 100.00 GiB on CPU")
        await run(pilot, "Capital?")
        assert "is **Paris" not in screen_text(pilot)
        assert "Paris" in screen_text(pilot)
        assert len(garage.models) == 1
        assert not garage.models[0].closed


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_a_stop_keeps_what_was_said_and_asks_nobody_else(
    open_app: OpenApp, garage: Garage, room: Room, key: str
) -> None:
    garage.script.reply, garage.script.piece_s = "word " * 400, 0.02
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        screen_of(pilot).query_one(Question).insert("Go on for long")
        await pilot.press("enter")
        await shows(pilot, "word word")
        await shows(pilot, "writing · ")
        assert "tok/s" in screen_text(pilot)
        await pilot.press(key)
        await shows(pilot, "Stopped.")
        assert "not asked" in screen_text(pilot)
        assert len(garage.models) == 1
        assert isinstance(app.screen, CompareScreen)


async def test_a_stop_while_the_second_model_loads(open_app: OpenApp, garage: Garage, room: Room) -> None:
    garage.others[OTHER].load_s = 2.0
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        screen_of(pilot).query_one(Question).insert("Hi")
        await pilot.press("enter")
        await shows(pilot, "loading 10%")
        await pilot.press("escape")
        await shows(pilot, "Stopped.")
        assert "given up" not in screen_text(pilot)
        assert len(garage.models) == 1
        await pilot.press("escape")
        assert app.screen is app.chat


async def test_an_engine_that_dies_is_told_on_its_side(open_app: OpenApp, garage: Garage, room: Room) -> None:
    garage.others[OTHER] = Script(reply="It was a dark night", error=EngineDied("The engine ended."), dies_after=2)
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        await run(pilot, "Tell me a story")
        text = screen_text(pilot)
        assert "Paris" in text
        assert "It was a" in text
        assert "The engine ended." in text


async def test_a_model_that_does_not_load_is_told_on_its_side(open_app: OpenApp, garage: Garage, room: Room) -> None:
    garage.others[OTHER] = Script(load_error=DoesNotFit("It needs 9 GiB.", hint="Try Q2_K."))
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot, key="f7")
        await pilot.press("f8")
        await shows(pilot, "other-3b")
        await pilot.press("enter")
        await shows(pilot, "fake-1b")
        await run(pilot, "Capital?")
        text = screen_text(pilot)
        assert "It needs 9 GiB." in text
        assert "Try Q2_K." in text
        assert "Paris" in text


async def test_both_are_copied_as_markdown_and_sampled_alike(open_app: OpenApp, garage: Garage, room: Room) -> None:
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        assert f"greedy · at most {MAX_TOKENS} tokens" in screen_text(pilot)
        await run(pilot, "Capital?")
        await pilot.press("c")
        assert app.clipboard.startswith("> Capital?\n\n|  | fake-1b Q4_K_M | other-3b |")
        assert "## other-3b\n\nThe capital of France is **Lyon**, or Paris." in app.clipboard
        await pilot.press("f6")
        await shows(pilot, "as the chat samples, one seed")
        await run(pilot)
        request, (left, right) = screen_of(pilot)._done or pytest.fail("nothing was done")
        assert request.sampling.temperature is None
        assert request.sampling.seed is not None
        assert left.sampling == right.sampling == request.sampling


async def test_a_name_that_stands_for_nothing_and_a_comparison_without_a_second_model(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    async with open_app(garage=garage).run_test(size=(120, 40), notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
        await say(pilot, "/compare smolm2:135m")
        await shows(pilot, "The nearest names")
        assert "smollm2:135m" in screen_text(pilot)
        screen_of(pilot).query_one(Question).insert("Hi")
        await pilot.press("enter")
        await shows(pilot, "there is no second model yet. F8 chooses it.")
        assert garage.models[0].asked == []


async def test_a_model_that_nobody_can_chat_with_is_refused_when_it_is_chosen(
    open_app: OpenApp, garage: Garage, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.untaught.add(OTHER)
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
        await pilot.press("f12", "f8")
        await shows(pilot, "other-3b")
        await pilot.press("down", "enter")
        await shows(pilot, "other-3b has no chat template: it cannot answer in a chat.")
        await shows(pilot, "--chat-template FILE")
        screen_of(pilot).query_one(Question).insert("Hi")
        await pilot.press("enter")
        await shows(pilot, "there is no second model yet. F8 chooses it.")
        assert room.asked == [], "nothing is planned for a model that cannot answer"
        assert len(garage.models) == 1


async def test_the_chats_own_model_without_a_template_leaves_its_side_empty(
    open_app: OpenApp, garage: Garage, room: Room
) -> None:
    garage.script.has_chat_template = False
    room.untaught.add(INFO.path)
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await shows(pilot, "fake-1b.gguf has no chat template")
        await pilot.press("f12", "f8")
        await shows(pilot, "other-3b")
        await pilot.press("down", "enter")
        await shows(pilot, "They answer one after the other")
        screen_of(pilot).query_one(Question).insert("Hi")
        await pilot.press("enter")
        await shows(pilot, "there is no first model yet. F7 chooses it.")
        assert all(not model.asked for model in garage.models)


async def test_a_message_whose_file_is_still_read_waits_in_the_prompt_until_the_comparison_is_over(
    open_app: OpenApp, garage: Garage, room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, disk_answers, read = tmp_path / "notes.md", threading.Event(), attachments.read
    notes.write_text("The code word is basalt.")

    def slowly(path: Path) -> Attachment:
        disk_answers.wait(10)
        return read(path)

    monkeypatch.setattr(attachments, "read", slowly)
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
        await say(pilot, f"/attach {notes}")
        await say(pilot, "What is the code word?")
        await pilot.press("f12")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))
        disk_answers.set()
        await shows(pilot, "A comparison is open")
        assert garage.models[0].asked == []
        assert not app.chat.busy
        await pilot.press("escape")
        await wait_until(pilot, lambda: app.screen is app.chat)
        assert app.chat.talk.prompt.text == "What is the code word?"
        assert "notes.md" in screen_text(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: garage.models[0].asked)
        assert "basalt" in garage.models[0].asked[0][-1].content


async def test_a_model_that_was_named_before_a_comparison_is_not_loaded_during_it(
    open_app: OpenApp, garage: Garage, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = threading.Event()

    def slowly(_name: str) -> Path:
        found.wait(10)
        return OTHER

    monkeypatch.setattr(library, "resolve", slowly)
    app = open_app(garage=garage)
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await wait_until(pilot, lambda: "fake-1b" in screen_text(pilot))
        await say(pilot, "/model other-3b")
        await pilot.press("f12")
        await wait_until(pilot, lambda: isinstance(app.screen, CompareScreen))
        found.set()
        await shows(pilot, "A comparison is open")
        assert not garage.models[0].closed
        assert len(garage.models) == 1


class Host(App[None]):
    """One side and a table of two, and nothing else."""

    CSS_PATH = ChatApp.CSS_PATH

    def compose(self) -> ComposeResult:
        yield Side(id="side")
        yield Figures()


async def test_a_side_grows_and_a_table_cuts_what_is_too_long() -> None:
    contender = Contender("one\x1b[2J", INFO.path)
    failed = Answer(contender, "Half of it", INFO, PLAN, error=EngineDied("The engine ended in a way that is long."))
    async with Host().run_test(size=(60, 40)) as pilot:
        side = pilot.app.query_one(Side)
        side.name_model(contender.name)
        for step in (Loading(0.5), Reading(INFO, PLAN), Said("Half ", 2, 7.0), Said("of *it*", 4, 7.25)):
            side.take(step)
        await pilot.pause()
        text = screen_text(pilot)
        assert "writing" in text
        assert "tok/s" not in text, "in so short a time a rate says nothing"
        assert "Half of it" in text
        assert "\x1b" not in text
        side.take(Said(" and more", 32, 9.0))
        await pilot.pause()
        assert "15.0 tok/s" in screen_text(pilot)
        side.take(failed)
        pilot.app.query(Figures).last().show([failed, None])
        await pilot.pause()
        lines = screen_text(pilot).splitlines()
        assert any("The engine ended in a way that is long." in line for line in lines)
        (ended,) = [line for line in lines if line.strip().startswith("ended")]
        assert ended.endswith("… -")


class Ready:
    """Engines whose models are there at once."""

    def open(self, contender: Contender, progress: Callable[[float], None], stopped: threading.Event) -> Responder:
        return FakeResponder()

    def release(self, model: Responder) -> None:
        pass


def test_words_that_come_together_are_counted_as_all_of_them() -> None:
    contenders = [Contender("one", INFO.path), Contender("other", INFO.path)]
    crashes: list[BaseException] = []
    contest = Contest(Comparison(contenders, Request("Capital?", Sampling()), Ready()), crashes.append)
    while not contest.is_over:
        threading.Event().wait(0.01)
    steps = list(contest.take())
    assert crashes == []
    assert [(number, type(step)) for number, step in steps] == [
        (number, kind) for number in (0, 1) for kind in (Reading, Said, Answer)
    ]
    for _, step in steps:
        if isinstance(step, Said):
            assert (step.text, step.pieces) == (Script.reply, 9)


def test_what_is_waited_for_may_be_given_up() -> None:
    given_up, goes_on, never = threading.Event(), threading.Event(), threading.Event()
    late: queue.SimpleQueue[object] = queue.SimpleQueue()

    def keep(made: object) -> None:
        late.put(made)

    def job() -> str:
        given_up.set()
        goes_on.wait(10)
        return "made"

    with pytest.raises(Cancelled):
        background.wait_for(job, given_up, keep)
    goes_on.set()
    assert late.get(timeout=10) == "made"
    assert background.wait_for(lambda: 7, never, keep) == 7
    with pytest.raises(ZeroDivisionError):
        background.wait_for(lambda: 1 // 0, never, keep)


async def test_a_real_comparison_beside_a_real_chat(
    smollm2: Path, smollm2_q2: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "MAX_TOKENS", 24)
    app = ChatApp(open_model, Wanted(smollm2, Options(n_ctx=1024)), store, sampling=Sampling(temperature=0))
    async with app.run_test(size=(160, 40), notifications=True) as pilot:
        await ask(pilot, "Name the capital of France.")
        own = app.chat.model
        assert isinstance(own, ModelProcess)
        await say(pilot, f"/compare {smollm2_q2}")
        await shows(pilot, "fits beside the model of the chat")
        screen_of(pilot).query_one(Question).text = "Name the capital of Italy."
        await run(pilot)
        _, (left, right) = screen_of(pilot)._done or pytest.fail("nothing was done")
        for answer in (left, right):
            assert answer.stats is not None
            assert answer.stats.decode_tps > 0
            assert answer.stats.cached_tokens == 0
            assert answer.plan is not None
            assert answer.plan.n_ctx == 1024
        assert answer.text
        second = screen_of(pilot)._engines._second
        assert second is not None
        assert isinstance(second[1], ModelProcess)
        pid = second[1].pid
        assert pid != own.pid
        await pilot.press("escape")
        await wait_until(pilot, lambda: not Path(f"/proc/{pid}").exists(), "the second engine to end")
        await ask(pilot, "And of Italy?")
        stats = app.chat.conversation.path()[-1].stats
        assert app.chat.model is own
        assert stats is not None
        assert stats.cached_tokens >= 43, "all that the chat had computed before the comparison"
    app.close()


async def test_that_there_is_nothing_to_ask_is_said(open_app: OpenApp, garage: Garage, room: Room) -> None:
    async with open_app(garage=garage).run_test(size=(160, 40), notifications=True) as pilot:
        await compare_with_other(pilot)
        await pilot.press("enter")
        await shows(pilot, "write first what both are to answer")
        assert all(not model.asked for model in garage.models)
