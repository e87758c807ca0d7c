"""Steps of one reply alone, which go a shorter way, where that way ends: the KV cache is full, or llama.cpp fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.errors import EngineDied
from localllm.native import lib
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.reply import LocalReply
from localllm.runtime.sampling import Sampling
from tests.runtime.conftest import GREEDY, say, say_with_stats

# What follows is so likely that it is the same however a batch rounds.
CATS, DOGS = ((phrase * 8).strip() for phrase in ("the cat sat on the mat and ", "one dog ran in the park but "))

DESERT = "Caravans crossed the desert at night, when the sand was cool and the stars showed the way. " * 5

Decode = Callable[[Any, Any], int]


@pytest.fixture(scope="module")
def small(smollm2: Path) -> Iterator[Model]:
    with Model.load(smollm2, Options(n_ctx=256)) as model:
        yield model


@pytest.fixture
def full(small: Model) -> Model:
    small.forget()
    return small


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The tokens and the code of each decode from now on."""
    seen: list[tuple[int, int]] = []
    decode: Decode = lib.llama().llama_decode

    def watched(context: Any, batch: Any) -> int:
        code = decode(context, batch)
        seen.append((batch.n_tokens, code))
        return code

    monkeypatch.setattr(lib.llama(), "llama_decode", watched)
    return seen


def begun(model: Model) -> tuple[str, LocalReply, str]:
    """(all that a reply says, the same reply again after its first piece, that piece)."""
    expected = say(model, CATS)[0]
    model.forget()
    reply = model.complete(CATS, sampling=GREEDY, max_tokens=12)
    return expected, reply, next(reply)


def failing(monkeypatch: pytest.MonkeyPatch, codes: list[int]) -> None:
    """Let the next decodes end with these codes."""
    decode: Decode = lib.llama().llama_decode
    monkeypatch.setattr(
        lib.llama(), "llama_decode", lambda context, batch: codes.pop(0) if codes else decode(context, batch)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [GREEDY, Sampling(temperature=0, logprobs=1), Sampling(temperature=0, grammar='root ::= [a-z ]+ "."')],
    ids=["greedy", "logprobs", "grammar"],
)
def test_a_conversation_that_idles_gives_way_to_a_reply_that_fills_the_cache(
    full: Model, sampling: Sampling, decoded: list[tuple[int, int]]
) -> None:
    alone = full.complete(CATS, sampling=sampling, max_tokens=150)
    expected, told = "".join(alone), alone.logprobs
    full.forget()
    decoded.clear()
    before, _ = say(full, DESERT)
    reply = full.complete(CATS, sampling=sampling, max_tokens=150)
    assert "".join(reply) == expected
    assert [one.token for one in reply.logprobs] == [one.token for one in told]
    assert (1, 1) in decoded  # one token for which there was no room
    text, reused = say(full, DESERT)
    assert (text, reused) == (before, len(full.tokenize(DESERT)) - 1)


@pytest.mark.slow
def test_a_reply_that_rests_gives_way_and_goes_on_later(full: Model, decoded: list[tuple[int, int]]) -> None:
    expected = []
    for prompt in (CATS, DOGS):
        full.forget()
        expected.append(say(full, prompt, tokens=150)[0])
    full.forget()
    decoded.clear()
    resting = full.complete(DOGS, sampling=GREEDY, max_tokens=150)
    begun = next(resting)
    assert say(full, CATS, tokens=150)[0] == expected[0]
    assert (1, 1) in decoded
    assert begun + "".join(resting) == expected[1]


@pytest.mark.slow
def test_a_reply_goes_on_in_the_context_alone_until_it_is_full(full: Model) -> None:
    say(full, DESERT)
    _, stats = say_with_stats(full, CATS, tokens=0)
    assert stats.stop_reason == "context"
    assert stats.prompt_tokens + stats.completion_tokens == full.info.n_ctx + 1


@pytest.mark.slow
@pytest.mark.parametrize("code", [-3, 2], ids=["failed", "aborted"])
def test_a_decode_that_failed_once_is_done_again(full: Model, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    expected, reply, text = begun(full)
    failing(monkeypatch, [code])
    assert text + "".join(reply) == expected


@pytest.mark.slow
def test_a_decode_that_fails_again_ends_the_reply_and_nothing_else(
    full: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, reply, text = begun(full)
    failing(monkeypatch, [-3, -3])
    with pytest.raises(EngineDied, match="code -3"):
        list(reply)
    assert reply.text == text
    again, reused = say(full, CATS)
    assert again == expected
    assert reused > 0


@pytest.mark.slow
def test_ctrl_c_between_a_decode_and_its_sampling_leaves_what_is_known(
    full: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, reply, _ = begun(full)
    decode: Decode = lib.llama().llama_decode

    def interrupted(context: Any, batch: Any) -> int:
        decode(context, batch)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lib.llama(), "llama_decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(reply)
    text, reused = say(full, CATS)
    assert text == expected
    assert reused == len(full.tokenize(CATS)) - 1
