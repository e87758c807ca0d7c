"""Models that cannot go back to where they were: with a sliding window, recurrent ones, and hybrids of both kinds.

What they remember is used where it can be, and never where it would be wrong: what they say with it is what a fresh
engine says. The models are tiny and random, as for the tests of the converter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.convert import convert
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from tests.convert.golden import goldens, write_checkpoint
from tests.runtime.conftest import GREEDY, say

pytestmark = pytest.mark.slow

KINDS = {"sliding window": "gemma3-pattern", "recurrent": "mamba", "hybrid": "lfm2", "delta rule": "qwen3-next"}
OPTIONS = Options(n_ctx=2048, sequences=2)
STORY = "A market by the river, where boats were unloaded at dawn. "
OTHER = "Caravans crossed the desert at night under the stars. "


@pytest.fixture(scope="module", params=list(KINDS.values()), ids=list(KINDS))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF of one of them."""
    folder = tmp_path_factory.mktemp("tiny")
    golden = next(golden for golden in goldens() if golden.name == request.param)
    return convert(write_checkpoint(golden, folder / "checkpoint"), folder / "tiny.gguf", type="F32").outfile


@pytest.fixture(scope="module")
def model(tiny: Path) -> Iterator[Model]:
    with Model.load(tiny, OPTIONS) as model:
        yield model


@pytest.fixture(autouse=True)
def _fresh(model: Model) -> None:
    model.forget()


def test_a_conversation_that_goes_on(model: Model) -> None:
    first, _ = say(model, STORY)
    longer = STORY + first + OTHER
    text, reused = say(model, longer)
    assert reused >= len(model.tokenize(STORY)) - 1
    model.forget()
    assert say(model, longer) == (text, 0)


def test_the_same_question_again(model: Model) -> None:
    first, _ = say(model, STORY)
    assert say(model, STORY) == (first, len(model.tokenize(STORY)) - 1)


def test_a_branch_from_where_an_answer_began(model: Model) -> None:
    say(model, STORY)
    branch = STORY + OTHER
    text, reused = say(model, branch)
    assert reused >= len(model.tokenize(STORY)) - 1
    model.forget()
    assert say(model, branch) == (text, 0)


def test_a_branch_from_anywhere(model: Model) -> None:
    """There is no state of this place: what is reused, if anything, must be right."""
    say(model, STORY + OTHER, tokens=40)
    branch = STORY + OTHER[:20] + STORY
    text, _ = say(model, branch)
    model.forget()
    assert say(model, branch) == (text, 0)


def test_conversations_in_turns(model: Model) -> None:
    prompts = [STORY, OTHER, STORY[:20], OTHER[:20]]
    fresh = []
    for prompt in prompts:
        model.forget()
        fresh.append(say(model, prompt)[0])
    model.forget()
    for _ in range(2):
        assert [say(model, prompt)[0] for prompt in prompts] == fresh
    assert all(say(model, prompt)[1] == len(model.tokenize(prompt)) - 1 for prompt in prompts)


def test_another_process_goes_on(tiny: Path) -> None:
    options = replace(OPTIONS, kv_disk=1 << 30)
    long = (STORY + OTHER) * 3
    with Model.load(tiny, options) as model:
        first, _ = say(model, long)
    with Model.load(tiny, options) as model:
        text, reused = say(model, long + first + OTHER)
        assert reused >= len(model.tokenize(long)) - 1
        model.forget()
        assert say(model, long + first + OTHER) == (text, 0)


def test_a_full_context_shifts_without_moving_what_cannot_be_moved(tiny: Path) -> None:
    with Model.load(tiny, Options(n_ctx=256, window="shift")) as model:
        reply = model.complete(STORY, sampling=GREEDY, max_tokens=300)
        assert "".join(reply)
        assert reply.stats is not None
        assert reply.stats.stop_reason == "end" or reply.stats.dropped_tokens > 0
