"""Guesses that the model checks: fewer steps, the same answers."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.convert import convert
from localllm.errors import UnsupportedModel
from localllm.native.handles import ContextHandle
from localllm.runtime import draft_model
from localllm.runtime.context import open_context
from localllm.runtime.draft import MOST, Ngrams
from localllm.runtime.draft_model import CHUNK
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from tests.convert.golden import goldens, write_checkpoint
from tests.runtime.conftest import GREEDY, say_with_stats
from tests.runtime.test_sequences import sure

NOTHING = array("i")


def ids(*tokens: int) -> array[int]:
    return array("i", tokens)


def proposed(drafter: Ngrams, tokens: array[int], before: int, most: int = MOST) -> array[int]:
    """What it says at the end of the tokens, when it was asked at each place from `before` on."""
    for length in range(before, len(tokens)):
        drafter.propose(tokens[:length], most)
    return drafter.propose(tokens, most)


def test_it_goes_on_as_it_did_before() -> None:
    text = ids(*range(10, 30))
    assert proposed(Ngrams(), text + text[:6], before=20) == text[6:8]


def test_nothing_is_said_about_new_text_or_a_short_likeness() -> None:
    text = ids(*range(10, 30))
    assert proposed(Ngrams(), text, before=1) == NOTHING
    assert proposed(Ngrams(), text + text[:4], before=20) == NOTHING


def test_the_last_place_counts() -> None:
    text = ids(1, 2, 3, 4, 5, 77, 1, 2, 3, 4, 5, 88, 9, 1, 2, 3, 4, 5)
    assert proposed(Ngrams(), text, before=1, most=1) == ids(88)


def test_asking_twice_changes_nothing() -> None:
    text = ids(*range(10, 30))
    drafter = Ngrams()
    proposed(drafter, text + text[:6], before=20)
    assert drafter.propose(text + text[:6], 1) == text[6:7] or drafter.propose(text + text[:6], 1) == NOTHING


def test_right_guesses_make_it_bold_and_wrong_ones_careful() -> None:
    text = ids(*range(10, 60))
    drafter = Ngrams()
    assert len(proposed(drafter, text + text[:8], before=50)) == 2
    drafter.checked(2, 2)
    assert len(proposed(drafter, text + text[:10], before=59)) == 4
    drafter.checked(4, 0)
    assert proposed(drafter, text + text[:11] + ids(99) + text[:7], before=61) == NOTHING


@pytest.fixture(scope="module")
def guessing(smollm2: Path) -> Iterator[Model]:
    with Model.load(smollm2, Options(n_ctx=1024, draft="ngram")) as model:
        yield model


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 2, 3, 24, 25])
def test_text_that_repeats_is_said_in_fewer_steps(model: Model, guessing: Model, tokens: int) -> None:
    text, stats = say_with_stats(guessing, sure(0), tokens)
    assert text == say_with_stats(model, sure(0), tokens)[0]
    assert stats.completion_tokens == tokens
    assert stats.accepted_tokens <= stats.drafted_tokens
    if tokens > 20:
        assert stats.accepted_tokens > tokens // 4


@pytest.mark.slow
def test_the_next_turn_finds_what_was_guessed_right(guessing: Model) -> None:
    guessing.forget()
    text, _ = say_with_stats(guessing, sure(1), 20)
    _, stats = say_with_stats(guessing, sure(1) + text, 4)
    assert stats.cached_tokens >= len(guessing.tokenize(sure(1) + text)) - 2


@pytest.mark.slow
def test_several_replies_guess_at_once(model: Model, guessing: Model) -> None:
    prompts = [sure(0), sure(1)]
    expected = [say_with_stats(model, prompt, 16)[0] for prompt in prompts]
    texts: dict[int, str] = {}

    def read(number: int) -> None:
        texts[number] = say_with_stats(guessing, prompts[number], 16)[0]

    threads = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [texts[0], texts[1]] == expected


@pytest.mark.slow
def test_the_end_of_the_context_is_not_passed(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=256, draft="ngram")) as model:
        text, stats = say_with_stats(model, sure(0), 0)
        assert stats.stop_reason == "context"
        assert text
        assert stats.prompt_tokens + stats.completion_tokens == 257


@pytest.mark.slow
def test_a_model_that_drafts_for_itself_is_mostly_right(smollm2: Path, model: Model) -> None:
    with Model.load(smollm2, Options(n_ctx=1024, draft=str(smollm2))) as drafted:
        text, stats = say_with_stats(drafted, sure(0), 24)
        assert text == say_with_stats(model, sure(0), 24)[0]
        assert stats.accepted_tokens > 10
        assert drafted.plan.total > model.plan.total
        assert any("drafts" in note for note in drafted.notes)
        chat = drafted.chat(sampling=GREEDY, max_tokens=24)
        assert "Paris" in chat.ask("Name the capital of France.")
        assert "Berlin" in chat.ask("And of Germany?")
        assert chat.stats is not None
        assert chat.stats.accepted_tokens > 0


@pytest.mark.slow
def test_a_long_prompt_is_read_by_the_draft_in_steps(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=1024, draft=str(smollm2))) as drafted:
        tokens = array("i", drafted.tokenize(" one two three four five six seven eight nine ten" * 40))
        assert 1 < len(tokens) / CHUNK < 2
        drafts = drafted._parts.draft
        assert drafts is not None
        slot = drafts.take(tokens)
        assert slot is not None
        assert drafts.guess(slot, tokens, 2) == NOTHING
        assert slot.tokens == tokens[:CHUNK]
        guesses = drafts.guess(slot, tokens, 2)
        assert guesses
        assert slot.tokens[: len(tokens)] == tokens


@pytest.mark.slow
def test_a_model_with_another_vocabulary_cannot_draft(smollm2: Path, tmp_path: Path) -> None:
    golden = next(golden for golden in goldens() if golden.name == "llama")
    other = convert(write_checkpoint(golden, tmp_path / "checkpoint"), tmp_path / "tiny.gguf", type="F32").outfile
    with pytest.raises(UnsupportedModel, match="other vocabularies") as caught:
        Model.load(smollm2, Options(n_ctx=512, draft=str(other)))
    assert "ngram" in caught.value.hint


@pytest.mark.slow
def test_a_model_that_cannot_go_back_is_not_guessed_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = next(golden for golden in goldens() if golden.name == "mamba")
    path = convert(write_checkpoint(golden, tmp_path / "checkpoint"), tmp_path / "tiny.gguf", type="F32").outfile
    with Model.load(path, Options(n_ctx=512, draft="ngram")) as model:
        text, stats = say_with_stats(model, "one two three " * 8, 30)
        assert text
        assert stats.drafted_tokens == 0
    opened: list[ContextHandle] = []

    def watched(*args: Any, **settings: Any) -> ContextHandle:
        opened.append(open_context(*args, **settings))
        return opened[-1]

    monkeypatch.setattr(draft_model, "open_context", watched)
    with pytest.raises(UnsupportedModel, match="cannot take back"):
        Model.load(path, Options(n_ctx=512, draft=str(path)))
    assert [context.pointer for context in opened] == [None]


@pytest.mark.slow
def test_a_reply_may_be_cancelled_between_guesses(guessing: Model) -> None:
    reply = guessing.complete(sure(0), sampling=GREEDY, max_tokens=60)
    for count, _ in enumerate(reply):
        if count == 12:
            reply.cancel()
    assert reply.stats is not None
    assert reply.stats.stop_reason == "cancelled"
    assert reply.stats.completion_tokens < 16
