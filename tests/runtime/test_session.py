"""Conversations from Python: what is remembered, what is reused, and what survives a failure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import localllm
from localllm.errors import BadTemplate, ContextFull
from localllm.runtime import thinking
from localllm.runtime.model import Model
from localllm.runtime.options import OptionFields, Options
from localllm.runtime.reply import LocalReply
from localllm.runtime.sampling import Sampling
from localllm.runtime.session import Chat
from localllm.runtime.thinking import Parted
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY

pytestmark = pytest.mark.slow


def _chat(model: Model, system: str | None = None) -> Chat:
    return model.chat(system, sampling=GREEDY, max_tokens=24)


def test_a_second_turn_evaluates_only_what_is_new(model: Model) -> None:
    chat = _chat(model)
    assert "Paris" in chat.ask("Name the capital of France.")
    first = chat.stats
    assert "Berlin" in chat.ask("And of Germany?")
    second = chat.stats
    assert first is not None
    assert second is not None
    # All of the first turn is cached, the answer too; new are the end of that answer, the turn and the template.
    assert second.cached_tokens >= first.prompt_tokens + first.completion_tokens
    new_turn = len(model.tokenize("<|im_end|>\n<|im_start|>user\nAnd of Germany?<|im_end|>\n<|im_start|>assistant\n"))
    assert second.prompt_tokens - second.cached_tokens <= new_turn


def test_the_system_prompt_is_heard(model: Model) -> None:
    with_system = _chat(model, system="You are a pirate.").ask("Who are you?")
    assert with_system != _chat(model).ask("Who are you?")


def test_regenerate_reuses_the_prompt_and_replaces_the_answer(model: Model) -> None:
    chat = _chat(model)
    first = chat.ask("Name the capital of France.")
    again = "".join(chat.regenerate())
    assert again == first
    assert [message.role for message in chat.messages] == ["user", "assistant"]
    assert chat.stats is not None
    assert chat.stats.cached_tokens == chat.stats.prompt_tokens - 1


def test_nothing_to_regenerate_is_a_mistake(model: Model) -> None:
    with pytest.raises(ValueError, match="nothing to answer"):
        list(_chat(model).regenerate())


def test_a_fork_shares_what_was_said_and_nothing_else(model: Model) -> None:
    chat = _chat(model)
    chat.ask("Name the capital of France.")
    first = chat.stats
    fork = chat.fork()
    assert "Berlin" in fork.ask("And of Germany?")
    assert "Rome" in chat.ask("And of Italy?")
    assert first is not None
    for one in (fork, chat):
        assert one.stats is not None
        assert one.stats.cached_tokens >= first.prompt_tokens + first.completion_tokens
    assert [message.content for message in fork.messages] != [message.content for message in chat.messages]
    assert fork.messages[:2] == chat.messages[:2]


def test_an_edited_question_is_answered_from_where_it_changes(model: Model) -> None:
    chat = _chat(model, system="You are a helpful assistant that answers in one short sentence.")
    chat.ask("Name the capital of France.")
    chat.ask("Name the capital of Germany.")
    said = "".join(chat.edit(3, "Name the capital of Italy."))
    assert "Rome" in said
    assert chat.messages[3:] == [Message("user", "Name the capital of Italy."), Message("assistant", said)]
    assert chat.stats is not None
    # New are the question from the word that changed on, and what the template puts behind it.
    assert chat.stats.prompt_tokens - chat.stats.cached_tokens <= len(
        model.tokenize(" Italy.<|im_end|>\n<|im_start|>assistant\n")
    )
    said = "".join(chat.edit(-4, "Name the capital of Spain."))
    assert chat.messages[1:] == [Message("user", "Name the capital of Spain."), Message("assistant", said)]


def test_an_edited_answer_is_continued(model: Model) -> None:
    chat = _chat(model)
    chat.ask("Name the capital of France.")
    said = "".join(chat.edit(1, "The capital city of France is"))
    assert "Paris" in said
    assert chat.messages[1:] == [Message("assistant", "The capital city of France is" + said)]


def test_what_cannot_be_edited(model: Model) -> None:
    chat = _chat(model, system="You are a pirate.")
    with pytest.raises(ValueError, match="system prompt"):
        next(chat.edit(0, "You are a king."))
    with pytest.raises(IndexError):
        next(chat.edit(1, "Hello"))
    assert chat.messages == [Message("system", "You are a pirate.")]


def test_undo_takes_back_a_turn(model: Model) -> None:
    chat = _chat(model)
    chat.ask("Name the capital of France.")
    before = list(chat.messages)
    chat.ask("And of Germany?")
    assert chat.undo() == "And of Germany?"
    assert chat.messages == before
    chat.undo()
    with pytest.raises(ValueError, match="nothing"):
        chat.undo()


def test_one_conversation_is_answered_once_at_a_time(model: Model) -> None:
    chat = _chat(model)
    stream = chat.stream("Tell me about the sea.")
    begun = next(iter(stream))
    for meanwhile in (lambda: chat.ask("Name the capital of France."), chat.undo, lambda: list(chat.regenerate())):
        with pytest.raises(RuntimeError, match="fork"):
            meanwhile()
    assert chat.fork().ask("Name the capital of France.")
    assert (begun + "".join(stream)) == chat.messages[-1].content


def test_a_second_thread_is_refused_while_a_reply_is_prepared(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = _chat(model)
    reply = model.reply

    def meanwhile(*args: Any, **options: Any) -> LocalReply:
        monkeypatch.undo()
        with pytest.raises(RuntimeError, match="being answered"):
            chat.ask("And of Germany?")
        return reply(*args, **options)

    monkeypatch.setattr(model, "reply", meanwhile)
    assert "Paris" in chat.ask("Name the capital of France.")
    assert [message.role for message in chat.messages] == ["user", "assistant"]


def test_leaving_early_keeps_the_partial_answer(model: Model) -> None:
    chat = _chat(model)
    for piece in chat.stream("Tell me about the sea."):
        if "sea" in piece:
            break
    assert chat.messages[-1].role == "assistant"
    assert chat.messages[-1].content
    assert chat.stats is not None
    assert chat.stats.stop_reason == "cancelled"


def test_cancel_keeps_the_partial_answer(model: Model) -> None:
    chat = model.chat(sampling=GREEDY)
    for count, _ in enumerate(chat.stream("Tell me a very long story about the sea.")):
        if count == 5:
            chat.cancel()
    assert chat.messages[-1].content
    assert chat.stats is not None
    assert chat.stats.stop_reason == "cancelled"
    assert chat.stats.completion_tokens < 10


def test_a_turn_that_does_not_fit_leaves_the_conversation_alone(model: Model) -> None:
    chat = _chat(model)
    chat.ask("Name the capital of France.")
    before = list(chat.messages)
    with pytest.raises(ContextFull):
        chat.ask("word " * 3000)
    assert chat.messages == before
    assert "Berlin" in chat.ask("And of Germany?")


def test_a_model_without_a_template_says_so(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model._handle), "chat_template", lambda _handle: None)
    monkeypatch.setattr(model, "_template", None)
    with pytest.raises(BadTemplate, match="no chat template") as caught:
        _chat(model).ask("Hello")
    assert "--chat-template" in caught.value.hint


def test_a_model_tells_what_it_is_sampled_with(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=256, recommended=(("temperature", 0.25),))) as model:
        assert model.info.sampling["temperature"] == 0.25
        assert model.info.sampling["top_k"] == 40


def test_a_template_may_be_given(smollm2: Path) -> None:
    given = "{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %} The answer is:"
    with Model.load(smollm2, Options(n_ctx=256, chat_template=given)) as model:
        reply = model.reply([Message("user", "What is two plus two?")], sampling=GREEDY, max_tokens=2)
        list(reply)
        assert model.info.has_chat_template
        assert reply.stats is not None
        assert reply.stats.prompt_tokens == len(model.tokenize("[user] What is two plus two? The answer is:"))


def test_two_chats_on_one_model_do_not_mix(model: Model) -> None:
    one, two = _chat(model), _chat(model)
    one.ask("Name the capital of France.")
    two.ask("How many days are there in a week?")
    alone = _chat(model)
    model.forget()
    alone.ask("Name the capital of France.")
    assert one.ask("And of Germany?") == alone.ask("And of Germany?")


def test_three_lines_of_python() -> None:
    model = localllm.load(n_ctx=512)
    with model:
        chat = model.chat(system="You are a helpful assistant.", sampling=GREEDY)
        assert "Paris" in "".join(chat.stream("What is the capital of France?"))
        assert chat.stats is not None
        assert chat.messages[0] == Message("system", "You are a helpful assistant.")


def test_settings_by_name_are_the_fields_of_options() -> None:
    """The functions that take them by name know all, with their types."""
    fields = {field.name: field.type for field in dataclasses.fields(Options)}
    assert {name: kind.__forward_arg__ for name, kind in OptionFields.__annotations__.items()} == fields
    with localllm.load(None, Options(n_ctx=512, window="shift"), n_ctx=256) as model:
        assert (model.plan.n_ctx, model.plan.options.window) == (256, "shift")


PUBLIC = """
BadCheckpoint BadGrammar BadModelFile BadOutput BadSettings BadStore BadTemplate BadText BadWorker Cancelled
Chat ContextFull DoesNotFit DownloadFailed EngineDied LocalLLMError Message MissingPackage Model ModelNotFound
ModelProcess Options Plan Sampling Stats UnsupportedModel __version__ convert_model load load_process plan pull
verify_model"""


def test_the_public_names_are_these() -> None:
    assert sorted(localllm.__all__) == PUBLIC.split()
    for name in localllm.__all__:
        assert getattr(localllm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = localllm.lod


def test_two_conversations_may_be_read_in_turns(model: Model) -> None:
    first, second = _chat(model), _chat(model)
    stream = first.stream("Name the capital of France.")
    begun = next(iter(stream))
    assert second.ask("Name the capital of Italy.")
    assert (begun + "".join(stream)) == first.messages[-1].content
    assert "Paris" in first.messages[-1].content


def test_a_marker_that_is_a_control_token_is_in_the_text_and_its_token_is_used_again(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thinking, "MARKS", {"<|im_start|>"})
    with Model.load(smollm2, Options(n_ctx=512)) as model:
        (mark,) = model.tokenize("<|im_start|>")
        chat = model.chat(sampling=Sampling(temperature=0, logit_bias=((mark, 1000.0),)), max_tokens=3)
        assert chat.ask("Say something.") == "<|im_start|>" * 3
        first = chat.stats
        assert first is not None
        chat.ask("Go on.")
        assert chat.stats is not None
        assert chat.stats.cached_tokens >= first.prompt_tokens + 2


def test_the_last_answer_in_two(model: Model) -> None:
    chat = _chat(model)
    assert chat.parted == Parted(None, False, "")
    chat.messages += [Message("user", "Hi"), Message("assistant", "<think>Hm.</think>Hello."), Message("user", "Ho")]
    assert chat.parted == Parted("Hm.", True, "Hello.")
