"""One reply in its thread: what reaches the disk when the disk, the model or the person interferes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import pytest

from localllm.chat.conversation import Conversation, Node
from localllm.chat.store import Store
from localllm.errors import BadStore, DoesNotFit, EngineDied
from localllm.runtime.options import Options
from localllm.runtime.responder import Responder
from localllm.runtime.sampling import Sampling
from localllm.tui import turn as turn_module
from localllm.tui.dialogue import Dialogue
from localllm.tui.loader import Loader, Wanted
from localllm.tui.turn import Turn
from tests.tui.fake import INFO, FakeResponder, Garage, Script


def crashed(error: BaseException) -> None:
    pytest.fail(f"a thread crashed: {error!r}")


@dataclass
class Talk:
    """A dialogue without a screen: `wait` blocks until the reply ended."""

    store: Store
    script: Script
    model: FakeResponder = field(init=False)
    dialogue: Dialogue = field(init=False)
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    grew: Callable[[Turn], object] = lambda _turn: None

    def __post_init__(self) -> None:
        self.model = FakeResponder(self.script)
        self.dialogue = Dialogue(
            self.store,
            Sampling(),
            self.wait_for_model,
            began=lambda _turn: self.began.set(),
            ended=lambda _turn: self.ended.set(),
            grew=lambda turn: self.grew(turn),
            crashed=crashed,
        )

    def wait_for_model(self, given_up: threading.Event) -> Responder | None:
        return self.model

    def wait(self) -> tuple[Turn, Node | None]:
        assert self.ended.wait(10)
        self.ended.clear()
        self.began.clear()
        turn = self.dialogue.turn
        assert turn is not None
        return turn, self.dialogue.finish()

    def on_disk(self) -> list[tuple[str, str, str]]:
        path = self.store.load(self.dialogue.conversation.id).path()
        return [(node.role, node.text, node.state) for node in path]


@pytest.fixture
def talk(store: Store) -> Talk:
    return Talk(store, Script(reply="one two three four five six"))


def test_that_there_is_more_is_told_once_until_it_is_taken(talk: Talk) -> None:
    told: list[int] = []
    talk.grew = lambda turn: told.append(turn.pieces)
    talk.dialogue.send("Count")
    talk.wait()
    assert told == [2]
    taken: list[str] = []
    talk.grew = lambda turn: taken.append(turn.take())
    talk.dialogue.send("Again")
    turn, _ = talk.wait()
    assert (len(taken), "".join(taken)) == (turn.pieces - 1, "one two three four five six")


def test_the_message_is_on_disk_before_the_model_is_asked(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    ask = talk.model.reply

    def asked(*messages: object, **options: object) -> object:
        seen.extend(talk.on_disk())
        return ask(*messages, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(talk.model, "reply", asked)
    talk.dialogue.send("Hi")
    talk.wait()
    assert seen == [("user", "Hi", "done")]


@pytest.mark.slow
def test_words_reach_the_disk_while_the_reply_goes_on(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "FLUSH_S", 0.0)
    talk.script.piece_s = 0.02
    talk.dialogue.send("Hi")
    assert talk.began.wait(10)
    deadline = time.monotonic() + 10
    while len(talk.on_disk()) < 2 or "two" not in talk.on_disk()[1][1]:
        assert time.monotonic() < deadline
    assert talk.on_disk()[1][2] == "writing"
    talk.wait()
    assert talk.on_disk()[1] == ("assistant", "one two three four five six", "done")


def test_a_message_that_cannot_be_written_is_not_answered(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    error = BadStore("The disk is full.")
    with monkeypatch.context() as broken:
        broken.setattr(talk.store, "add", raiser(error))
        talk.dialogue.send("Hi")
        turn, reply = talk.wait()
    assert turn.error is error
    assert reply is None
    assert talk.model.asked == []
    talk.dialogue.answer_again()
    talk.wait()
    assert [text for _, text, _ in talk.on_disk()] == ["Hi", "one two three four five six"]


@pytest.mark.parametrize("how", ["a message in another chat", "the end of the app"])
def test_a_message_that_the_disk_refused_is_not_lost_with_its_chat(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    talk.dialogue.send("Hi")
    talk.wait()
    chat = talk.dialogue.conversation
    with monkeypatch.context() as broken:
        broken.setattr(talk.store, "add", raiser(BadStore("The disk is full.")))
        talk.dialogue.send("More")
        talk.wait()
        talk.dialogue.open(None)
        talk.dialogue.send("New")
        talk.wait()
        talk.dialogue.open(talk.store.load(chat.id))
        assert talk.dialogue.conversation.path()[-1].text == "More"
        talk.dialogue.open(None)
    if how == "the end of the app":
        talk.dialogue.close(1.0)
    else:
        talk.dialogue.send("Other")
        talk.wait()
    assert talk.store.load(chat.id).path()[-1].text == "More"
    assert {"New", "Hi"} <= {entry.title for entry in talk.store.chats()}


def test_a_chat_that_was_deleted_stays_deleted_when_its_words_are_written_late(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.dialogue.send("Hi")
    talk.wait()
    chat = talk.dialogue.conversation
    with monkeypatch.context() as broken:
        broken.setattr(talk.store, "add", raiser(BadStore("The disk is full.")))
        talk.dialogue.send("More")
        talk.wait()
    talk.dialogue.open(None)
    talk.store.delete(chat.id)
    talk.dialogue.send("New")
    talk.wait()
    assert [entry.title for entry in talk.store.chats()] == ["New"]
    talk.store.restore(chat.id)
    assert talk.store.load(chat.id).path()[-1].text == "More"


def test_a_disk_that_fails_on_the_way_does_not_stop_the_reply(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "FLUSH_S", 0.0)
    error = BadStore("The disk is full.")
    with monkeypatch.context() as broken:
        broken.setattr(talk.store, "update", raiser(error))
        talk.dialogue.send("Hi")
        turn, reply = talk.wait()
    assert turn.error is None
    assert turn.store_error is error
    assert reply is not None
    assert reply.text == "one two three four five six"


def test_a_disk_that_works_again_gets_all_words(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "FLUSH_S", 0.0)
    update, failures = talk.store.update, iter([BadStore("locked")] * 3)

    def sometimes(node: Node) -> bool:
        for error in failures:
            raise error
        return update(node)

    monkeypatch.setattr(talk.store, "update", sometimes)
    talk.dialogue.send("Hi")
    turn, _ = talk.wait()
    assert turn.store_error is None
    assert talk.on_disk()[1] == ("assistant", "one two three four five six", "done")


@pytest.mark.parametrize("how", ["another message", "the end of the app"])
def test_the_last_words_that_a_disk_refused_are_written_later(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(turn_module, "FLUSH_S", 0.0)
    with monkeypatch.context() as broken:
        broken.setattr(talk.store, "update", raiser(BadStore("The disk is full.")))
        talk.dialogue.send("Hi")
        talk.wait()
    assert talk.on_disk()[1][1:] != ("one two three four five six", "done")
    if how == "another message":
        talk.dialogue.send("More")
        talk.wait()
    else:
        talk.dialogue.close(1.0)
    assert talk.on_disk()[1] == ("assistant", "one two three four five six", "done")


def test_an_engine_that_dies_leaves_a_partial_reply(talk: Talk) -> None:
    talk.script.error, talk.script.dies_after = EngineDied("gone"), 2
    talk.dialogue.send("Hi")
    turn, reply = talk.wait()
    assert turn.error is talk.script.error
    assert reply is not None
    assert (reply.text, reply.state, reply.stats) == ("one two ", "partial", None)
    assert talk.on_disk()[1] == ("assistant", "one two ", "partial")


def test_a_reply_that_goes_on_keeps_what_it_had_when_nothing_comes(talk: Talk) -> None:
    talk.script.stop_reason = "length"
    talk.dialogue.send("Hi")
    talk.wait()
    talk.script.reply, talk.script.stop_reason = "", "end"
    talk.dialogue.go_on()
    _, reply = talk.wait()
    assert reply is not None
    assert (reply.text, reply.state) == ("one two three four five six", "done")
    assert talk.on_disk()[1] == ("assistant", "one two three four five six", "done")


@pytest.mark.parametrize("stopped", [False, True])
def test_a_reply_that_cannot_go_on_is_as_it_was(talk: Talk, stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    talk.script.stop_reason = "length"
    talk.dialogue.send("Hi")
    _, before = talk.wait()
    assert before is not None
    assert before.stats is not None
    if stopped:  # while the model loads
        monkeypatch.setattr(talk, "model", None)
    talk.script.error = EngineDied("gone")
    talk.dialogue.go_on()
    _, reply = talk.wait()
    assert reply == before
    assert talk.store.load(talk.dialogue.conversation.id).path()[-1] == before


def test_unanswered_messages_are_asked_together(talk: Talk) -> None:
    talk.script.error = EngineDied("gone")
    talk.dialogue.send("First")
    talk.wait()
    talk.script.error = None
    talk.dialogue.send("Second")
    talk.wait()
    assert [message.content for message in talk.model.asked[-1]] == ["First\n\nSecond"]
    assert [text for _, text, _ in talk.on_disk()][:2] == ["First", "Second"]


def test_closing_waits_for_the_last_words(talk: Talk) -> None:
    talk.script.piece_s = 0.02
    talk.dialogue.send("Hi")
    assert talk.began.wait(10)
    talk.dialogue.close(5)
    assert talk.on_disk()[1][2] == "partial"


WANTED = Wanted(INFO.path)


def raiser(error: Exception) -> Callable[..., NoReturn]:
    def fail(*arguments: object, **named: object) -> NoReturn:
        raise error

    return fail


def test_a_loader_tells_each_change_and_can_load_again() -> None:
    garage, states = Garage(), list[str]()
    ready = threading.Event()

    def changed() -> None:
        states.append(loader.state)
        if loader.state == "ready":
            ready.set()

    loader = Loader(garage.open, WANTED, changed, crashed)
    loader.start()
    assert ready.wait(10)
    assert loader.wait(threading.Event()) is garage.models[0]
    ready.clear()
    larger = Wanted(WANTED.path, Options(n_ctx=16384))
    loader.start(larger)
    assert ready.wait(10)
    assert garage.models[0].closed
    assert garage.models[1].wanted == loader.wanted == larger
    assert loader.wait(threading.Event()) is garage.models[1]
    loader.close()
    assert garage.models[1].closed
    assert states[0] == "loading"


def test_a_model_that_is_lost_fails_and_one_in_its_place_does_not() -> None:
    garage = Garage()
    loader = Loader(garage.open, WANTED, lambda: None, crashed)
    loader.start()
    first = loader.wait(threading.Event())
    loader.start()
    second = loader.wait(threading.Event())
    assert second is garage.models[1]
    deadline = time.monotonic() + 10
    while any(model.lost is None for model in garage.models):
        assert time.monotonic() < deadline
    tell_first, tell_second = (model.lost for model in garage.models)
    assert first is not second
    assert tell_first is not None
    assert tell_second is not None
    tell_first(EngineDied("The first was killed."))
    assert loader.wait(threading.Event()) is second
    tell_second(EngineDied("The second was killed."))
    with pytest.raises(EngineDied, match="second"):
        loader.wait(threading.Event())


def test_a_load_that_is_given_up_frees_what_it_loaded() -> None:
    garage = Garage()
    may_load, loaded = threading.Event(), threading.Event()

    def slow(wanted: Wanted, progress: Callable[[float], None]) -> Responder:
        may_load.wait(10)
        model = FakeResponder()
        garage.models.append(model)
        loaded.set()
        return model

    loader = Loader(slow, WANTED, lambda: None, crashed)
    loader.start()
    loader.close()
    may_load.set()
    assert loaded.wait(10)
    deadline = time.monotonic() + 10
    while not garage.models[0].closed:
        assert time.monotonic() < deadline


def test_waiting_for_a_model_ends_with_its_error_or_when_given_up() -> None:
    error = DoesNotFit("too large")
    failed = threading.Event()

    def changed() -> None:
        if loader.state == "failed":
            failed.set()

    loader = Loader(raiser(error), WANTED, changed, crashed)
    given_up = threading.Event()
    given_up.set()
    assert loader.wait(given_up) is None
    loader.start()
    with pytest.raises(DoesNotFit):
        loader.wait(threading.Event())


def test_another_conversation_is_wholly_saved_already(talk: Talk, tmp_path: Path) -> None:
    chat = Conversation()
    talk.store.add(chat, chat.add_user("Old"))
    talk.dialogue.open(talk.store.load(chat.id))
    talk.dialogue.answer_again()
    turn, _ = talk.wait()
    assert turn.error is None
    assert [text for _, text, _ in talk.on_disk()] == ["Old", "one two three four five six"]
