"""Several conversations in one KV cache: what each finds there, and that sharing changes nothing."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from localllm.native.kv import KV
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sequences import WORTH_LEAVING
from tests.runtime import conftest
from tests.runtime.conftest import GREEDY

RIVER = "The history of the city begins with a small market by the river, where boats were unloaded. " * 6
DESERT = "Caravans crossed the desert at night, when the sand was cool and the stars showed the way. " * 6


say = functools.partial(conftest.say, tokens=8)

PHRASES = ("the cat sat on the mat and ", "one dog ran in the park but ")


def sure(number: int) -> str:
    """A prompt, another one for each number, whose continuation no rounding decides: a batch of several replies rounds
    otherwise than that of one."""
    return PHRASES[number % 2] * (8 + number // 2)


def count(model: Model, text: str) -> int:
    return len(model.tokenize(text))


@pytest.fixture(scope="module")
def alone(smollm2: Path) -> Iterator[Model]:
    """A model with one sequence, and so with RAM for every other conversation."""
    with Model.load(smollm2, Options(n_ctx=1024, sequences=1)) as model:
        yield model


@pytest.fixture(scope="module")
def unfused(smollm2: Path) -> Iterator[Model]:
    """A model without flash attention."""
    with Model.load(smollm2, Options(n_ctx=1024, flash_attention=False)) as model:
        yield model


@pytest.fixture(
    params=[
        "four sequences",
        pytest.param("one sequence", marks=pytest.mark.slow),
        pytest.param("without flash attention", marks=pytest.mark.slow),
    ]
)
def either(request: pytest.FixtureRequest, model: Model, alone: Model, unfused: Model) -> Model:
    chosen = {"four sequences": model, "one sequence": alone}.get(request.param, unfused)
    chosen.forget()
    return chosen


@pytest.mark.slow
def test_each_of_several_conversations_is_found_again(either: Model) -> None:
    cat, dog = sure(8), sure(9)
    texts = {prompt: say(either, prompt)[0] for prompt in (cat, dog)}
    for prompt in (cat, dog, cat):
        text, reused = say(either, prompt)
        assert text == texts[prompt]
        assert reused == count(either, prompt) - 1


@pytest.mark.slow
def test_idle_conversations_leave_where_they_would_slow_down_every_token(either: Model) -> None:
    river, desert = RIVER * 3, DESERT * 3
    say(either, river)
    say(either, desert)
    assert either._writer().cells() < count(either, desert) + 16
    assert either._writer().ram() > 0
    _, reused = say(either, river)
    assert reused == count(either, river) - 1
    assert either._writer().cells() < count(either, river) + 16


@pytest.mark.slow
def test_a_branch_stays_however_much_it_shares(model: Model) -> None:
    trunk = RIVER * 3
    say(model, trunk + "In winter the ice was thick.")
    say(model, trunk + "In summer, music was heard.")
    assert count(model, trunk) >= WORTH_LEAVING
    assert model._writer().ram() == 0
    assert model._writer().cells() > count(model, trunk + "In summer, music was heard.")


@pytest.mark.slow
def test_a_branch_that_finds_no_room_beside_its_trunk_shares_it(model: Model) -> None:
    trunk = DESERT * 5
    waiting, asked = ((trunk + phrase * 12).strip() for phrase in PHRASES)
    assert 1024 / 2 < count(model, trunk) < 1024 - 2 * (count(model, asked) - count(model, trunk)) - 16
    expected = [say(model, prompt)[0] for prompt in (waiting, asked)]
    say(model, RIVER * 3)  # both are in RAM
    assert model._writer().cells() < count(model, trunk)
    reply = model.complete(waiting, sampling=GREEDY, max_tokens=8)
    begun = next(reply)
    text, reused = say(model, asked)
    assert text == expected[1]
    assert count(model, trunk) - 1 <= reused < count(model, asked) - 1
    assert begun + "".join(reply) == expected[0]


@pytest.mark.slow
def test_a_branch_of_what_a_reply_works_with_stays(model: Model) -> None:
    trunk = RIVER * 3
    say(model, trunk + "In winter the ice was thick. " * 6)
    reply = model.complete(trunk + "In summer, music was heard.", sampling=GREEDY, max_tokens=8)
    next(reply)
    say(model, "Once upon a time")
    assert model._writer().ram() == 0
    reply.close()


@pytest.mark.slow
def test_they_stay_if_ram_has_no_room(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=1024, kv_ram=1000)) as model:
        river, desert = RIVER * 3, DESERT * 3
        say(model, river)
        say(model, desert)
        assert model._writer().cells() > count(model, desert) + count(model, river)
        assert say(model, river)[1] == count(model, river) - 1


@pytest.mark.slow
def test_what_is_in_the_cache_is_not_fetched_from_ram_again(model: Model) -> None:
    river, desert = RIVER * 3, DESERT * 3
    with mock.patch.object(KV, "load", autospec=True, side_effect=KV.load) as load:
        for prompt in (river, desert, river):
            text, _ = say(model, prompt)
        assert load.call_count == 1
        for _ in range(2):  # another answer to the same
            assert say(model, river) == (text, count(model, river) - 1)
        assert load.call_count == 1


@pytest.mark.slow
def test_two_chats_in_turns_with_little_ram(smollm2: Path, model: Model) -> None:
    turns = [[(phrase * (40 + 3 * turn)).strip() for phrase in PHRASES] for turn in range(4)]
    expected = {}
    for prompt in (prompt for turn in turns for prompt in turn):
        model.forget()
        expected[prompt] = say(model, prompt)[0]
    model.forget()
    say(model, turns[0][0])
    say(model, turns[0][1])
    state = model._writer().ram()
    for n_ctx, room in ((1024, 2.6), (1024, 1.3), (512, 1.3)):
        with Model.load(smollm2, Options(n_ctx=n_ctx, kv_ram=int(room * state))) as little:
            in_turns(little, turns, expected, room, state)


def in_turns(little: Model, turns: list[list[str]], expected: dict[str, str], room: float, state: int) -> None:
    """Say all that both chats say, with RAM for `room` states, each of `state` bytes."""
    before = [0, 0]
    for turn in turns:
        for number, prompt in enumerate(turn):
            text, reused = say(little, prompt)
            assert text == expected[prompt]
            assert reused >= before[number]
            assert little._writer().ram() <= room * state
            if room > 2:  # for both: an older state of the one that leaves needs no place beside it
                assert little._writer().cells() < count(little, prompt) + 16
            before[number] = count(little, prompt) - 1


@pytest.mark.slow
def test_a_branch_leaves_the_other_one_in_the_cache(either: Model) -> None:
    trunk = count(either, RIVER)
    fresh = {}
    for ending in (" In winter the ice was thick and nobody came." * 4, " In summer, music was heard at night." * 4):
        either.forget()
        fresh[ending] = say(either, RIVER + ending)[0]
    either.forget()
    first, second = fresh
    say(either, RIVER + first)
    text, reused = say(either, RIVER + second)
    assert text == fresh[second]
    assert reused >= trunk - 1
    text, reused = say(either, RIVER + first)
    assert text == fresh[first]
    assert reused == count(either, RIVER + first) - 1


@pytest.mark.slow
def test_what_is_shared_takes_its_cells_once(model: Model) -> None:
    say(model, RIVER + " In winter", tokens=1)
    before = model.memory().kv_used
    say(model, RIVER + " In the summer", tokens=1)
    assert 0 < model.memory().kv_used - before < before / 10


@pytest.mark.slow
def test_replies_may_be_read_in_turns_by_one_thread(model: Model) -> None:
    prompts = [sure(number) for number in range(3)]
    expected = [say(model, prompt)[0] for prompt in prompts]
    model.forget()
    replies = [model.complete(prompt, sampling=GREEDY, max_tokens=8) for prompt in prompts]
    texts = ["" for _ in replies]
    open_ = set(range(len(replies)))
    while open_:
        for number in list(open_):
            piece = next(replies[number], None)
            if piece is None:
                open_.remove(number)
            else:
                texts[number] += piece
    assert texts == expected


@pytest.mark.slow
@pytest.mark.parametrize("readers", [3, 9])
def test_replies_may_be_read_by_threads_at_once(model: Model, readers: int) -> None:
    prompts = [sure(number) for number in range(readers)]
    expected = [say(model, prompt)[0] for prompt in prompts]
    model.forget()
    texts: dict[int, str] = {}

    def read(number: int) -> None:
        texts[number] = "".join(model.complete(prompts[number], sampling=GREEDY, max_tokens=8))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [texts[number] for number in range(readers)] == expected


@pytest.mark.slow
def test_more_unfinished_replies_than_sequences(alone: Model) -> None:
    alone.forget()
    expected = [say(alone, prompt)[0] for prompt in (RIVER, DESERT)]
    alone.forget()
    first = alone.complete(RIVER, sampling=GREEDY, max_tokens=8)
    text = next(first)
    assert say(alone, DESERT)[0] == expected[1]
    assert text + "".join(first) == expected[0]


@pytest.mark.slow
def test_conversations_that_together_are_larger_than_the_cache(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=256)) as model:
        prompts = [RIVER[: 90 * 5], DESERT[: 90 * 5], "One two three four five six seven " * 20]
        assert all(count(model, prompt) < 256 for prompt in prompts)
        assert sum(count(model, prompt) for prompt in prompts) > 256
        texts = {prompt: say(model, prompt)[0] for prompt in prompts}
        for prompt in prompts:
            text, reused = say(model, prompt)
            assert text == texts[prompt]
            assert reused == count(model, prompt) - 1


@pytest.mark.slow
def test_two_replies_that_grow_until_only_one_has_room(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=256)) as model:
        prompts = (sure(0), sure(1))
        expected = []
        for prompt in prompts:
            model.forget()
            expected.append(say(model, prompt, tokens=150)[0])
        model.forget()
        texts: dict[str, str] = {}

        def read(prompt: str) -> None:
            texts[prompt] = say(model, prompt, tokens=150)[0]

        threads = [threading.Thread(target=read, args=(prompt,)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert [texts[prompt] for prompt in prompts] == expected


@pytest.mark.slow
def test_without_ram_a_conversation_that_left_is_computed_again(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=1024, sequences=1, kv_ram=0)) as model:
        text, _ = say(model, RIVER)
        say(model, DESERT)
        assert say(model, RIVER) == (text, 0)


@pytest.mark.slow
def test_cancelling_one_reply_leaves_the_other(model: Model) -> None:
    expected = say(model, "Once upon a time", tokens=24)[0]
    model.forget()
    other = model.complete(DESERT, sampling=GREEDY)
    next(other)
    reply = model.complete("Once upon a time", sampling=GREEDY, max_tokens=24)
    text = next(reply)
    other.cancel()
    assert list(other) == []
    assert other.stats is not None
    assert other.stats.stop_reason == "cancelled"
    assert text + "".join(reply) == expected
