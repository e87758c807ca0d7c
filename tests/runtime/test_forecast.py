"""What is known of a reply before it is made: its prompt, what of it is computed, where each message ends."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from localllm.runtime.forecast import ends_of
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.prompt import Prompt
from localllm.runtime.types import Forecast, Message
from tests.runtime.conftest import GREEDY


def written(token: int) -> bytes:
    return {0: b"<s>", 1: b"ab", 2: b"cde", 3: b"|"}[token]


def test_each_message_ends_with_the_token_that_holds_its_last_letter() -> None:
    tokens = array("i", [0, 3, 1, 3, 2, 3])
    said = (Message("user", "ab"), Message("assistant", " cde "))
    assert ends_of(said, Prompt("|ab|cde|", tokens, tokens), written) == (3, 5)


def test_a_message_that_is_left_out_has_no_end() -> None:
    tokens = array("i", [0, 3, 1, 3, 2, 3])
    said = (Message("system", "ab"), Message("user", "gone"), Message("user", "cde"))
    assert ends_of(said, Prompt("|ab|cde|", tokens, tokens, dropped_messages=1), written) == (3, 0, 5)


def test_a_message_that_the_template_rewrites_ends_where_the_one_before_it_does() -> None:
    tokens = array("i", [0, 3, 1, 3])
    said = (Message("user", "ab"), Message("assistant", "not there"))
    assert ends_of(said, Prompt("|ab|", tokens, tokens), written) == (3, 3)


@pytest.mark.slow
def test_it_comes_true(smollm2: Path) -> None:
    with ModelProcess.load(smollm2, Options(n_ctx=1024)) as model:
        said = [Message("system", "Be brief."), Message("user", "Name the capital of France.")]
        before = model.foresee(said)
        reply = model.reply(said, sampling=GREEDY, max_tokens=12)
        answer = "".join(reply)
        assert reply.stats is not None
        assert (before.prompt_tokens, before.cached_tokens) == (reply.stats.prompt_tokens, 0)
        said += [Message("assistant", answer), Message("user", "And of Germany?")]
        after = model.foresee(said)
        second = model.reply(said, sampling=GREEDY, max_tokens=4)
        list(second)
        assert second.stats is not None
        assert (after.prompt_tokens, after.cached_tokens) == (second.stats.prompt_tokens, second.stats.cached_tokens)
        assert after.evaluated_tokens == second.stats.prompt_tokens - second.stats.cached_tokens
        system, first, said_before, last = after.ends
        assert 0 < system < first < said_before <= after.cached_tokens + 2 < last <= after.prompt_tokens


@pytest.mark.slow
def test_a_conversation_that_is_too_long_is_foreseen_all_the_same(model: Model) -> None:
    forecast = model.foresee([Message("user", "word " * 3000)])
    assert forecast.prompt_tokens > model.info.n_ctx
    with pytest.raises(ValueError, match="no messages"):
        model.foresee([])


@pytest.mark.slow
def test_a_plan_for_other_options_is_made_beside_the_model(smollm2: Path) -> None:
    with ModelProcess.load(smollm2, Options(n_ctx=1024)) as model:
        larger = model.what_if(Options(n_ctx=2048, gpu_layers=0, kv_type="f16", tuned=False))
        assert larger.n_ctx == 2 * model.plan.n_ctx == 2048
        assert sum(part.kv for part in larger.devices) == 2 * sum(part.kv for part in model.plan.devices)
        with pytest.raises(ValueError, match="no messages"):
            model.foresee([])
    assert isinstance(Forecast(3, 1, (3,)).evaluated_tokens, int)
