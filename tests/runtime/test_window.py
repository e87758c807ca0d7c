"""A conversation that is longer than the context: what is sent of it, and that the reply says what is not."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from localllm.errors import ContextFull
from localllm.runtime import window
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.session import Chat
from localllm.runtime.types import Message, Stats
from tests.runtime.conftest import GREEDY

N_CTX = 256


def test_all_turns_stay_while_they_fit() -> None:
    assert window.first_turn([(10, 20)] * 3, fixed=5, room=100, n_ctx=120) == 0


def test_half_of_what_there_is_goes_at_once() -> None:
    # The fourth question makes it 106 of 100: turns go until at most half of the room is used.
    assert window.first_turn([(10, 20)] * 3 + [(16, 0)], fixed=0, room=100, n_ctx=120) == 2


def test_what_went_stays_away_until_there_is_no_room_again() -> None:
    sizes = [(10, 20)] * 40
    firsts = [window.first_turn([*sizes[:count], (10, 0)], 8, room=100, n_ctx=120) for count in range(len(sizes))]
    assert firsts == sorted(firsts)
    changes = sum(one != other for one, other in pairwise(firsts))
    assert changes <= len(sizes) // 2
    for count, first in enumerate(firsts):
        assert 8 + 30 * (count - first) + 10 <= 100


def test_the_last_turn_stays_however_long_it_is() -> None:
    assert window.first_turn([(10, 20), (500, 0)], fixed=0, room=100, n_ctx=120) == 1


def test_an_answer_that_filled_the_context_counts() -> None:
    assert window.first_turn([(10, 20), (10, 85)], fixed=0, room=100, n_ctx=120) == 1


def test_the_system_prompt_is_pinned_and_a_greeting_is_not() -> None:
    messages = [Message("system", "s"), Message("assistant", "hello"), Message("user", "u"), Message("assistant", "a")]
    assert window.pinned(messages) == messages[:1]
    assert window.turns(messages) == [2]


@pytest.mark.parametrize("length", [99, 100, 101, 145, 146, 1000, 1001])
def test_a_shift_keeps_the_start_and_the_end(length: int) -> None:
    tokens = array("i", range(length))
    kept = window.shifted(tokens, 10, 100)
    assert len(kept) < 100
    assert kept[:10] == tokens[:10]
    assert kept[-40:] == tokens[-40:]
    assert (length - len(kept)) % 45 == 0


def test_a_shift_follows_from_the_length_alone() -> None:
    """What is shifted while it grows is what is shifted at once, but for the token that makes the context full."""
    grown = array("i")
    for token in range(1000):
        grown.append(token)
        if len(grown) > 100:
            grown = window.shifted(grown, 10, 100)
            assert grown == window.shifted(array("i", range(token + 1)), 10, 100)


def talk(chat: Chat, turns: int) -> Iterator[Stats]:
    for number in range(turns):
        chat.ask(f"Tell me about the number {number} and the sea.")
        assert chat.stats is not None
        yield chat.stats


@pytest.fixture(scope="module")
def dropping(smollm2: Path) -> Iterator[Model]:
    with Model.load(smollm2, Options(n_ctx=N_CTX, window="drop-oldest-turns")) as model:
        yield model


@pytest.fixture(scope="module")
def shifting(smollm2: Path) -> Iterator[Model]:
    with Model.load(smollm2, Options(n_ctx=N_CTX, window="shift")) as model:
        yield model


@pytest.mark.slow
def test_stop_is_never_silent(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=N_CTX)) as model:
        chat = model.chat(sampling=GREEDY)
        with pytest.raises(ContextFull, match="too many") as caught:
            list(talk(chat, 20))
        assert "drop-oldest-turns" in caught.value.hint
        assert chat.messages[-1].role == "assistant"
        assert chat.stats is not None
        assert chat.stats.stop_reason == "context"


@pytest.mark.slow
def test_the_oldest_turns_go_and_the_reply_says_so(dropping: Model) -> None:
    chat = dropping.chat("You are brief.", sampling=GREEDY, max_tokens=30)
    dropped, again = 0, 0
    for stats in talk(chat, 12):
        assert stats.dropped_messages >= dropped
        assert stats.dropped_messages % 2 == 0
        if stats.dropped_messages == dropped and stats.prompt_tokens > 60:
            assert stats.cached_tokens > stats.prompt_tokens - 40  # only what is new
        again += stats.dropped_messages != dropped
        dropped = stats.dropped_messages
    assert 0 < again <= 6
    assert len(chat.messages) == 25


@pytest.mark.slow
def test_what_is_dropped_is_dropped_exactly(dropping: Model, smollm2: Path) -> None:
    chat = dropping.chat("You are brief.", sampling=GREEDY, max_tokens=30)
    last = list(talk(chat, 9))[-1]
    kept = [chat.messages[0], *chat.messages[1 + last.dropped_messages : -1]]
    with Model.load(smollm2, Options(n_ctx=2 * N_CTX)) as model:
        reply = model.reply(kept, sampling=GREEDY, max_tokens=1)
        list(reply)
    assert reply.stats is not None
    assert abs(reply.stats.prompt_tokens - last.prompt_tokens) <= 2  # a border may be tokenized otherwise


@pytest.mark.slow
def test_an_answer_that_fills_the_context_goes_on_without_the_oldest_turns(dropping: Model) -> None:
    chat = dropping.chat(sampling=GREEDY, max_tokens=60)
    list(talk(chat, 2))
    chat.max_tokens = 150
    chat.ask("Tell me a long story about a ship.")
    assert chat.stats is not None
    assert chat.stats.completion_tokens > 100
    assert chat.stats.dropped_messages == 4


@pytest.mark.slow
def test_a_turn_too_long_for_the_context_is_refused(dropping: Model) -> None:
    chat = dropping.chat(sampling=GREEDY, max_tokens=10)
    list(talk(chat, 2))
    before = list(chat.messages)
    with pytest.raises(ContextFull, match="too many"):
        chat.ask("word " * 300)
    assert chat.messages == before


@pytest.mark.slow
def test_a_shift_goes_on_for_longer_than_the_context(shifting: Model) -> None:
    reply = shifting.complete("The cat sat on the mat and the dog", sampling=GREEDY, max_tokens=2 * N_CTX)
    text = "".join(reply)
    assert reply.stats is not None
    assert reply.stats.completion_tokens == 2 * N_CTX
    assert reply.stats.dropped_tokens > N_CTX
    assert text.count("\ufffd") == 0
    assert shifting.context_used() < N_CTX


@pytest.mark.slow
def test_keys_that_llama_cpp_cannot_move_are_computed_again(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=N_CTX, window="shift", kv_type="bf16")) as model:
        reply = model.complete("The cat sat on the mat and the dog", sampling=GREEDY, max_tokens=N_CTX + 20)
        assert "".join(reply)
        assert reply.stats is not None
        assert reply.stats.dropped_tokens > 0


@pytest.mark.slow
def test_a_shifted_conversation_is_not_computed_again(shifting: Model) -> None:
    chat = shifting.chat("You are brief.", sampling=GREEDY, max_tokens=40)
    stats = list(talk(chat, 9))
    assert stats[-1].dropped_tokens > 0
    for earlier, later in pairwise(stats):
        assert later.dropped_tokens >= earlier.dropped_tokens
        if later.dropped_tokens == earlier.dropped_tokens and later.prompt_tokens > 60:
            assert later.cached_tokens > later.prompt_tokens - 40


@pytest.mark.slow
def test_a_shift_with_another_conversation_in_the_cache(shifting: Model) -> None:
    """Cells that two sequences share are not moved under the other one."""
    prompt = "One two three four five six seven eight nine ten. " * 12
    alone = "".join(shifting.complete(prompt, sampling=GREEDY, max_tokens=5))
    long = shifting.complete(prompt, sampling=GREEDY, max_tokens=N_CTX)
    assert len(list(long)) > 100
    assert long.stats is not None
    assert long.stats.dropped_tokens > 0
    assert "".join(shifting.complete(prompt, sampling=GREEDY, max_tokens=5)) == alone
