"""Generation and prefix reuse on the real default model."""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import pytest

from localllm.errors import ContextFull, EngineDied
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.sequences import Sequences
from localllm.runtime.step import SHARED_CHUNK, Step, _Part
from localllm.runtime.types import Message, Progress
from tests.runtime.conftest import GREEDY, say

LONG = "The history of the city begins with a small market by the river. " * 30


def test_it_knows_the_capital_of_france(model: Model) -> None:
    reply = model.reply([Message("user", "Name the capital of France.")], sampling=GREEDY, max_tokens=24)
    assert "Paris" in "".join(reply)
    assert reply.stats is not None
    assert reply.stats.stop_reason == "end"
    assert reply.stats.cached_tokens == 0
    assert reply.stats.decode_tps > 0


@pytest.mark.parametrize("second", [" And so", "", " market by"], ids=["longer", "same", "other"])
@pytest.mark.slow
def test_a_reused_prefix_changes_nothing(model: Model, second: str) -> None:
    prompt = LONG[:600]
    say(model, prompt + " But then it")
    reused_text, reused = say(model, prompt + second)
    model.forget()
    fresh_text, fresh = say(model, prompt + second)
    assert fresh == 0
    assert reused > 100
    assert reused_text == fresh_text


def test_a_reply_anew_uses_nothing_and_leaves_all_as_it_was(model: Model) -> None:
    asked = [Message("user", "Name the capital of France.")]
    first = model.reply(asked, sampling=GREEDY, max_tokens=24)
    text = "".join(first)
    again = model.reply(asked, sampling=GREEDY, max_tokens=24, anew=True)
    assert "".join(again) == text
    assert again.stats is not None
    assert again.stats.cached_tokens == 0
    talk = [*asked, Message("assistant", text), Message("user", "And of Italy?")]
    assert model.foresee(talk).cached_tokens >= len(model.tokenize(text)) + again.stats.prompt_tokens - 1


@pytest.mark.slow
def test_the_likeliest_token_is_the_one_that_llama_cpp_takes(model: Model) -> None:
    text, _ = say(model, LONG[:100], 40)
    through_its_chain = Sampling(temperature=0, logit_bias=((0, 0.0),))
    assert "".join(model.complete(LONG[:100], sampling=through_its_chain, max_tokens=40)) == text


@pytest.mark.slow
def test_a_shorter_prompt_cuts_the_cache_back(model: Model) -> None:
    say(model, LONG[:800])
    _, reused = say(model, LONG[:400])
    assert 50 < reused < len(model.tokenize(LONG[:400]))
    assert model.context_used() == len(model.tokenize(LONG[:400])) + 11  # the twelfth token was not evaluated


@pytest.mark.slow
def test_a_prompt_longer_than_a_tiny_context_asked_for_is_evaluated_in_parts(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=16)) as model:
        prompt = LONG[:300]
        assert 16 < len(model.tokenize(prompt)) < model.info.n_ctx
        text, _ = say(model, prompt)
        assert text


@pytest.mark.slow
def test_the_same_seed_gives_the_same_text(model: Model) -> None:
    def draw(seed: int) -> str:
        return "".join(model.complete("Once upon a time", sampling=Sampling(temperature=1.0, seed=seed), max_tokens=20))

    assert draw(7) == draw(7)
    assert len({draw(seed) for seed in range(4)}) > 1


@pytest.mark.slow
def test_a_seed_that_was_drawn_is_told_and_repeats(model: Model) -> None:
    first = model.complete("Once upon a time", sampling=Sampling(temperature=1.0), max_tokens=20)
    text = "".join(first)
    assert first.sampling.seed is not None
    assert "".join(model.complete("Once upon a time", sampling=first.sampling, max_tokens=20)) == text


@pytest.mark.slow
def test_repeat_penalty_changes_what_is_said(model: Model) -> None:
    plain = "".join(model.complete("the the the the", sampling=GREEDY, max_tokens=20))
    penalized = model.complete("the the the the", sampling=Sampling(temperature=0, repeat_penalty=1.8), max_tokens=20)
    assert "".join(penalized) != plain


@pytest.mark.slow
def test_penalties_know_the_prompt(model: Model) -> None:
    # What follows is so likely that the rounding of one processor or another does not change it.
    prompt = "red green blue red green blue red green blue red green"
    assert "".join(model.complete(prompt, sampling=GREEDY, max_tokens=1)) == " blue"
    penalized = Sampling(temperature=0, repeat_penalty=1000)
    assert "blue" not in "".join(model.complete(prompt, sampling=penalized, max_tokens=2))


def test_a_bias_for_no_token_is_told_at_once(model: Model) -> None:
    with pytest.raises(ValueError, match="not in the vocabulary"):
        model.complete("Hi", sampling=Sampling(logit_bias=((1 << 30, 1.0),)))


@pytest.mark.slow
def test_a_failing_progress_callback_is_what_is_raised(smollm2: Path) -> None:
    def fail(fraction: float) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Model.load(smollm2, Options(n_ctx=256), progress=fail)


@pytest.mark.slow
def test_max_tokens_and_the_context_end_a_reply(smollm2: Path) -> None:
    with Model.load(smollm2, Options(n_ctx=256)) as model:
        short = model.complete(LONG[:300], sampling=GREEDY, max_tokens=3)
        list(short)
        assert short.stats is not None
        assert (short.stats.stop_reason, short.stats.completion_tokens) == ("length", 3)
        full = model.complete("la la la la la la", sampling=Sampling(temperature=0), max_tokens=0)
        list(full)
        assert full.stats is not None
        assert full.stats.stop_reason in ("context", "end")
        assert full.stats.prompt_tokens + full.stats.completion_tokens <= 257


@pytest.mark.slow
def test_a_prompt_longer_than_the_context_says_by_how_much(model: Model) -> None:
    tokens = len(model.tokenize(LONG * 4))
    with pytest.raises(
        ContextFull, match=f"{tokens:,} tokens and the context holds 1,024: {tokens - 1023:,} too many"
    ) as caught:
        list(model.complete(LONG * 4))
    assert "(--ctx, n_ctx in Python)" in caught.value.hint
    assert say(model, "Hello")[0]  # and the engine still works


@pytest.mark.slow
@pytest.mark.parametrize("begun", [False, True], ids=["before", "in prefill"])
def test_cancel_ends_prefill_at_once(model: Model, begun: bool) -> None:
    reply = model.complete(LONG * 2, sampling=GREEDY)
    if begun:
        reply.on_progress = lambda progress: reply.cancel()
    else:
        reply.cancel()
    assert "".join(reply) == ""
    assert reply.stats is not None
    assert reply.stats.stop_reason == "cancelled"
    assert reply.stats.completion_tokens == 0
    # What the cache says it holds, it holds: the same prompt gives the same text as a fresh engine.
    text, _ = say(model, LONG[:500])
    model.forget()
    assert text == say(model, LONG[:500])[0]


@pytest.mark.slow
def test_cancel_in_decode_keeps_the_text(model: Model) -> None:
    reply = model.complete("Once upon a time", sampling=GREEDY)
    text = ""
    for piece in reply:
        text += piece
        if len(text) > 40:
            reply.cancel()
    assert reply.text == text
    assert reply.stats is not None
    assert reply.stats.stop_reason == "cancelled"
    _, reused = say(model, "Once upon a time" + text)
    assert reused >= reply.stats.prompt_tokens


@pytest.mark.slow
def test_progress_counts_the_prompt(model: Model) -> None:
    reply = model.complete(LONG, sampling=GREEDY, max_tokens=1)
    seen: list[tuple[int, int]] = []
    reply.on_progress = lambda progress: seen.append((progress.done, progress.total))
    list(reply)
    tokens = len(model.tokenize(LONG))
    assert seen[0] == (0, tokens)
    assert seen[-1] == (tokens, tokens)
    assert seen == sorted(seen)


@pytest.mark.slow
def test_a_closed_model_says_so(smollm2: Path) -> None:
    model = Model.load(smollm2, Options(n_ctx=256))
    unfinished = model.complete("Once", sampling=GREEDY)
    next(unfinished)
    model.close()
    model.close()
    assert unfinished.stats is not None
    assert list(unfinished) == []
    assert model.context_used() == 0
    with pytest.raises(EngineDied, match="closed"):
        list(model.complete("Once"))
    with pytest.raises(EngineDied, match="closed"):
        model.tokenize("Once")
    with pytest.raises(EngineDied, match="closed"):
        model.forget()


# What follows is so likely that it is the same however a batch rounds.
DIGITS = 2 * "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22\n" + "1 2 3"

COUNTING = "one two three four five six seven eight nine ten\none two three"


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_step_costs_only_the_reply_that_it_ends(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = "".join(model.complete(COUNTING, sampling=GREEDY, max_tokens=8))
    ended, other = (model.complete(text, sampling=GREEDY, max_tokens=8) for text in ("1 2 3 4 5 6 1 2", COUNTING))
    next(ended)
    first = next(other)
    assert ended._stream is not None

    def interrupted(_context: object, _index: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(ended._stream.sampler, "sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(ended)
    assert first + "".join(other) == alone


@pytest.mark.slow
@pytest.mark.parametrize("leads", ["ended", "other"])
def test_who_is_cancelled_in_a_shared_step_leaves_at_once_and_costs_the_others_nothing(
    model: Model, monkeypatch: pytest.MonkeyPatch, leads: str
) -> None:
    alone = "".join(model.complete(DIGITS, sampling=GREEDY, max_tokens=8))
    other, ended = model.complete(DIGITS, sampling=GREEDY, max_tokens=8), model.complete(LONG, sampling=GREEDY)
    first = next(other)
    stream = ended._begin()
    stream.waiting = leads == "other"  # as in another thread, so that the next step is for both
    decode, codes, left = Step._decode, [], threading.Event()

    def watched(step: Step, parts: list[_Part]) -> int:
        if stream in [part.stream for part in parts]:
            ended.cancel()
            assert left.wait(timeout=20)  # who reads it is gone while the step goes on
        codes.append(decode(step, parts))
        return codes[-1]

    monkeypatch.setattr(Step, "_decode", watched)
    texts: list[str] = []

    def read() -> None:
        texts.append("".join(ended))
        left.set()

    reader = threading.Thread(target=read)
    if leads == "ended":
        reader.start()
        reader.join(timeout=20)
        assert not reader.is_alive()
        rest = "".join(other)
    else:
        reading = threading.Thread(target=lambda: texts.append("".join(other)))
        reading.start()
        while stream.active:
            time.sleep(0.001)
        reader.start()
        for thread in (reader, reading):
            thread.join(timeout=20)
        rest = texts.pop()
    assert texts == [""]
    assert first + rest == alone
    assert set(codes) == {0}  # no step was aborted, and none done again:
    assert len(codes) <= 8
    assert ended.stats is not None
    assert ended.stats.stop_reason == "cancelled"


@pytest.mark.slow
def test_a_reply_that_is_written_gets_a_token_in_every_step_that_reads_a_long_prompt(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = model.complete(COUNTING, sampling=GREEDY, max_tokens=40)
    reading = model.complete(LONG + LONG, sampling=GREEDY, max_tokens=1)
    next(writing)
    assert writing._stream is not None
    stream = reading._begin()
    stream.waiting = True  # as in another thread
    decode, steps = Step._decode, []

    def watched(step: Step, parts: list[_Part]) -> int:
        steps.append({part.stream: len(part.tokens) for part in parts})
        return decode(step, parts)

    monkeypatch.setattr(Step, "_decode", watched)
    while not stream.ready:
        assert next(writing)
    shared = [step for step in steps if stream in step]
    assert len(shared) == -(-len(stream.tokens[:-1]) // SHARED_CHUNK)
    assert all(step[writing._stream] == 1 and step[stream] <= SHARED_CHUNK for step in shared)
    assert len(list(reading)) == 1


def test_a_callback_that_fails_ends_its_own_reply_only(model: Model) -> None:
    def fail(_: Progress) -> None:
        raise ZeroDivisionError

    writing = model.complete(COUNTING, sampling=GREEDY, max_tokens=8)
    failing = model.complete("Once upon a time", sampling=GREEDY, max_tokens=8)
    failing.on_progress = fail
    first = next(writing)
    stream = failing._begin()
    stream.waiting = True  # as in another thread, so that the next step is for both
    assert (first + "".join(writing)).startswith(" four five")
    assert isinstance(stream.error, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        list(failing)


@pytest.mark.slow
def test_a_close_that_ctrl_c_interrupts_can_be_repeated(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Sequences) -> None:
        raise KeyboardInterrupt

    model = Model.load(smollm2, Options(n_ctx=256))
    monkeypatch.setattr(Sequences, "keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.close()
    monkeypatch.undo()
    model.close()
    assert model._handle.pointer is None
    assert model._writer()._context.pointer is None


@pytest.mark.slow
def test_closing_ends_replies_that_other_threads_read(smollm2: Path) -> None:
    model = Model.load(smollm2, Options(n_ctx=512))
    suspended = model.complete("Once", sampling=GREEDY)
    next(suspended)
    begun = threading.Event()
    texts: list[str] = []

    def read() -> None:
        for piece in model.complete("la la la la la la la la", sampling=GREEDY):
            texts.append(piece)
            begun.set()

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait(timeout=20)
    model.close()
    reader.join(timeout=20)
    assert not reader.is_alive()
    assert texts
    assert list(suspended) == []


@pytest.mark.slow
def test_characters_are_never_broken(model: Model) -> None:
    reply = model.complete("Translate to Japanese: 東京は日本の首都です。こんにちは、", sampling=GREEDY, max_tokens=30)
    pieces = list(reply)
    assert "".join(pieces) == reply.text
    assert all("\ufffd" not in piece for piece in pieces[:-1])


@pytest.mark.slow
def test_a_character_that_is_cut_is_left_out_and_comes_when_the_answer_goes_on(model: Model) -> None:
    prompt = "Repeat: \U0001f9ff\U0001f9ff\U0001f9ff\U0001f9ff\U0001f9ff\U0001f9ff\U0001f9ff\U0001f9ff"
    cut = [model.complete(prompt, sampling=GREEDY, max_tokens=count) for count in range(1, 6)]
    texts = ["".join(reply) for reply in cut]
    assert "\U0001f9ff" in texts[-1]
    assert len(set(texts)) < len(texts)  # some of them end inside one
    for reply, text in zip(cut, texts, strict=True):
        assert "\ufffd" not in text
        assert reply.stats is not None
        on = model.complete(prompt + text, sampling=GREEDY, max_tokens=4)
        assert "\ufffd" not in "".join(on)


@pytest.mark.slow
def test_the_answer_ends_before_a_stop_string_that_runs_across_tokens(model: Model) -> None:
    prompt = "one two three four five six seven eight nine ten\none two three"
    whole = "".join(model.complete(prompt, sampling=GREEDY, max_tokens=12))
    assert whole.startswith(" four five six seven eight")
    stopping = Sampling(temperature=0, stop=("ve six s", "never"))
    reply = model.complete(prompt, sampling=stopping, max_tokens=12)
    assert "".join(reply) == reply.text == " four fi"
    assert reply.stats is not None
    assert reply.stats.stop_reason == "stop"
    # Tokens that were computed and cut off are not taken for the text when it becomes a prompt.
    tokens = model._tokens.tokenize(prompt + reply.text)
    assert b"".join(map(model._vocab.piece, tokens)).decode() == prompt + reply.text


@pytest.mark.slow
def test_a_stop_string_ends_one_of_several_replies_and_no_other(model: Model) -> None:
    prompt = "one two three four five six seven eight nine ten\none two three"
    stopping = model.complete(prompt, sampling=Sampling(temperature=0, stop=(" six",)), max_tokens=12)
    other = model.complete(prompt, sampling=GREEDY, max_tokens=12)
    first = next(other)
    assert "".join(stopping) == " four five"
    assert (first + "".join(other)).startswith(" four five six seven eight nine")


def test_log_probabilities_of_each_token(model: Model) -> None:
    asked = Sampling(temperature=0, logprobs=3, stop=("Germany",))
    reply = model.complete("The capital of France is", sampling=asked, max_tokens=6)
    text = "".join(reply)
    assert text == "".join(token.text for token in reply.logprobs)
    first = reply.logprobs[0]
    assert first.text == " Paris"
    assert first.bytes == tuple(b" Paris")
    assert (first.token, first.logprob) == (first.top[0].token, first.top[0].logprob)
    assert -1.5 < first.logprob < 0
    for token in reply.logprobs:
        chances = [other.logprob for other in token.top]
        assert len(chances) == 3
        assert chances == sorted(chances, reverse=True)
        assert sum(map(math.exp, chances)) < 1


def test_log_probabilities_leave_out_the_tokens_of_a_stop_string(model: Model) -> None:
    prompt = "one two three four five six seven eight nine ten\none two three"
    asked = Sampling(temperature=0, stop=(" six seven",), logprobs=0)
    reply = model.complete(prompt, sampling=asked, max_tokens=12)
    assert "".join(reply) == " four five"
    assert [(token.text, token.top) for token in reply.logprobs] == [(" four", ()), (" five", ())]
