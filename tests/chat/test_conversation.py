"""The tree of messages: what is shown, what is kept beside it, what a model is given."""

from __future__ import annotations

import pytest

from localllm.chat.conversation import TITLE_LENGTH, Conversation, Node, title_of, with_nodes
from localllm.runtime.types import Message, Stats, StopReason


def stats(stop_reason: StopReason = "end") -> Stats:
    return Stats(10, 4, 3, 0.1, 100.0, 30.0, stop_reason)


def answered(*turns: tuple[str, str]) -> Conversation:
    chat = Conversation()
    for question, answer in turns:
        reply = chat.add_reply(chat.add_user(question).id, model="m")
        chat.extend(reply.id, answer)
        chat.finish(reply.id, stats())
    return chat


def test_messages_alternate_along_the_path() -> None:
    chat = answered(("Hi", "Hello."), ("And?", "Well."))
    chat.system = "Be brief."
    assert chat.messages() == [
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello."),
        Message("user", "And?"),
        Message("assistant", "Well."),
    ]


def test_unanswered_messages_are_one_turn_for_the_model_and_two_on_the_path() -> None:
    chat = Conversation()
    chat.add_user("Name a city.")
    chat.add_user("In France.")
    assert chat.messages() == [Message("user", "Name a city.\n\nIn France.")]
    assert [node.text for node in chat.path()] == ["Name a city.", "In France."]


def test_a_second_reply_keeps_the_first_beside_it() -> None:
    chat = answered(("Hi", "Hello."))
    question = chat.question()
    assert question is not None
    first = chat.leaf
    second = chat.add_reply(question.id)
    chat.extend(second.id, "Good day.")
    assert [node.text for node in chat.siblings(second.id)] == ["Hello.", "Good day."]
    assert chat.messages()[-1] == Message("assistant", "Good day.")
    assert first is not None
    chat.select(first)
    assert chat.messages()[-1] == Message("assistant", "Hello.")


def test_select_goes_on_to_the_newest_message_below() -> None:
    chat = answered(("one", "1"), ("two", "2"), ("three", "3"))
    first_question, last = chat.path()[0], chat.leaf
    chat.add_reply(first_question.id)
    chat.select(chat.children(first_question.id)[0].id)
    assert chat.leaf == last


def test_select_goes_on_to_what_was_shown_last_below() -> None:
    chat = answered(("one", "1"), ("two", "2"))
    first, _, question, kept = chat.path()
    chat.add_reply(question.id)
    chat.select(kept.id)
    other = chat.add_version(first.id, "another one")
    chat.select(first.id)
    assert chat.leaf == kept.id
    chat.select(other.id)
    newest = chat.children(question.id)[-1]
    chat.select(newest.id)
    chat.undo()
    chat.select(question.id)
    assert chat.leaf == newest.id


def test_messages_stop_at_the_one_asked_for() -> None:
    chat = answered(("one", "1"), ("two", "2"))
    question = chat.question()
    assert question is not None
    assert chat.messages(until=question.id)[-1] == Message("user", "two")


@pytest.mark.parametrize(
    ("reason", "state"), [("end", "done"), ("stop", "done"), ("cancelled", "partial"), ("length", "partial")]
)
def test_a_reply_is_done_only_if_it_ended_by_itself(reason: StopReason, state: str) -> None:
    chat = Conversation()
    reply = chat.add_reply(chat.add_user("Hi").id)
    assert reply.state == "writing"
    chat.extend(reply.id, "Hel")
    assert chat.finish(reply.id, stats(reason)).state == state


def test_only_a_partial_reply_with_text_can_go_on() -> None:
    chat = answered(("Hi", "Hello."))
    assert chat.unfinished() is None
    reply = chat.add_reply(chat.add_user("More").id)
    chat.finish(reply.id, None)
    assert chat.unfinished() is None
    chat.extend(reply.id, "Half a")
    assert chat.unfinished() is None
    chat.finish(reply.id, None)
    unfinished = chat.unfinished()
    assert unfinished is not None
    assert unfinished.text == "Half a"


def test_withdrawing_an_empty_reply_shows_its_question_again() -> None:
    chat = Conversation()
    question = chat.add_user("Hi")
    reply = chat.add_reply(question.id)
    chat.withdraw(reply.id)
    assert chat.leaf == question.id
    assert chat.children(question.id) == []


def test_a_message_that_holds_text_cannot_be_withdrawn() -> None:
    chat = answered(("Hi", "Hello."))
    assert chat.leaf is not None
    with pytest.raises(ValueError, match="holds text"):
        chat.withdraw(chat.leaf)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("a", "a"),
        ("  two\n lines ", "two lines"),
        ("word " * 30, "word word word word word word word word word word word…"),
        ("x" * 100, "x" * (TITLE_LENGTH - 1) + "…"),
        ("東" * 100, "東" * (TITLE_LENGTH - 1) + "…"),
    ],
)
def test_titles(text: str, title: str) -> None:
    assert title_of(text) == title
    assert len(title_of(text)) <= TITLE_LENGTH


def test_a_tree_with_a_missing_parent_is_refused() -> None:
    orphan = Node("b", "a", "user", "Hi", 0.0)
    with pytest.raises(ValueError, match="follows a"):
        with_nodes(Conversation(leaf="b"), [orphan])
    with pytest.raises(ValueError, match="last message"):
        with_nodes(Conversation(leaf="b"), [])


def test_another_version_of_a_message_stands_beside_it() -> None:
    chat = answered(("Capital of France?", "Paris."), ("Sure?", "Yes."))
    first = chat.path()[0]
    other = chat.add_version(first.id, "Capital of Spain?")
    assert [node.text for node in chat.path()] == ["Capital of Spain?"]
    assert chat.siblings(other.id) == [first, other]
    reply = chat.add_version(chat.children(first.id)[0].id, "Paris, of course.")
    assert (reply.role, reply.model, reply.stats) == ("assistant", "", None)
    assert [node.text for node in chat.path()] == ["Capital of France?", "Paris, of course."]


def test_undo_goes_back_to_before_the_last_question_and_keeps_it() -> None:
    chat = answered(("one", "1"), ("two", "2"))
    first, _, second, _ = chat.path()
    assert chat.undo() == second
    assert [node.text for node in chat.path()] == ["one", "1"]
    assert chat.undo() == first
    assert chat.path() == []
    assert chat.undo() is None
    assert chat.title == "one"
    assert len(chat.nodes) == 4


def test_a_fork_holds_the_path_and_nothing_beside_it() -> None:
    chat = answered(("one", "1"), ("two", "2"))
    chat.system, chat.settings = "Be brief.", {"model": "m"}
    chat.add_version(chat.path()[-1].id, "zwei")
    fork = chat.fork()
    assert fork.messages() == chat.messages()
    assert len(fork.nodes) == 4
    assert fork.settings == {"model": "m"}
    assert (fork.title, fork.fork().title) == ("Fork of one", "Fork of one")
    assert not {fork.id, *fork.nodes} & {chat.id, *chat.nodes}
    early = chat.fork(until=chat.path()[1].id)
    assert [node.text for node in early.path()] == ["one", "1"]
    fork.settings["model"] = "other"
    assert chat.settings == {"model": "m"}


def test_nothing_above_a_cut_is_sent_and_nothing_is_lost() -> None:
    chat = answered(("one", "1"), ("two", "2"), ("three", "3"))
    chat.system = "Be brief."
    second = chat.path()[2]
    chat.cut(second.id)
    assert chat.first_sent() == second
    assert [message.content for message in chat.messages()] == ["Be brief.", "two", "2", "three", "3"]
    assert [node.text for node in chat.path()] == ["one", "1", "two", "2", "three", "3"]
    third = chat.path()[4]
    chat.cut(third.id, "They counted to two.")
    assert [message.role for message in chat.messages()] == ["system", "user", "assistant"]
    assert chat.messages()[1].content.endswith("They counted to two.\n\nthree")
    assert chat.first_sent(mended=third.id) == second
    assert [one.message.content for one in chat.given(mended=third.id)][1:3] == ["two", "2"]
    assert chat.first_sent() == third
    chat.mend(third.id)
    assert chat.first_sent() == second
    chat.mend(second.id)
    assert len(chat.messages()) == 7


def test_a_cut_holds_only_on_its_own_branch_and_goes_along_with_a_fork() -> None:
    chat = answered(("one", "1"), ("two", "2"))
    first, answer, second, _ = chat.path()
    chat.cut(second.id, "One.")
    copy = chat.fork()
    assert [message.content for message in copy.messages()] == [message.content for message in chat.messages()]
    assert copy.cuts.keys().isdisjoint(chat.cuts)
    chat.leaf = answer.id
    assert chat.first_sent() is None
    assert [message.content for message in chat.messages()] == [first.text, answer.text]


def test_what_is_given_tells_what_it_was_made_of() -> None:
    chat = Conversation(system="Be brief.")
    one, two = chat.add_user("Name a city."), chat.add_user("In France.")
    assert [given.nodes for given in chat.given()] == [(), (one.id, two.id)]
