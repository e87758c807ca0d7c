"""Replies that follow a grammar, on the real default model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from localllm.errors import BadGrammar
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY
from tests.runtime.grammar.test_schema import SCHEMAS


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[Model]:
    with Model.load(smollm2, Options(n_ctx=1024)) as model:
        yield model


def _said(model: Model, question: str, sampling: Sampling, tokens: int = 60) -> tuple[str, str]:
    reply = model.reply([Message("user", question)], sampling=sampling, max_tokens=tokens)
    text = "".join(reply)
    assert reply.stats is not None
    return text, reply.stats.stop_reason


def test_one_of_two_words(model: Model) -> None:
    asked = replace(GREEDY, grammar='root ::= "yes" | "no"')
    assert _said(model, "Is Paris the capital of France?", asked) in (("yes", "end"), ("no", "end"))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
def test_every_draw_follows_whatever_the_samplers(model: Model, seed: int) -> None:
    grammar = 'root ::= line{3}\nline ::= [1-3] ". " word (" " word){0,3} "\\n"\nword ::= [a-zäöüß🙂]{1,8}'
    asked = Sampling(
        temperature=1.5, seed=seed, grammar=grammar, typical_p=0.9, repeat_penalty=1.2, dry_multiplier=0.5, min_p=0.02
    )
    text, reason = _said(model, "List three animals.", asked, 200)
    assert reason == "end"
    line = r"[1-3]\. [a-zäöüß🙂]{1,8}( [a-zäöüß🙂]{1,8}){0,3}\n"
    assert re.fullmatch(f"({line}){{3}}", text)


@pytest.mark.slow
def test_a_grammar_that_the_model_would_follow_anyway_changes_nothing(model: Model) -> None:
    plain, _ = _said(model, "Name the capital of France.", GREEDY)
    assert _said(model, "Name the capital of France.", replace(GREEDY, grammar="root ::= [^<]*"))[0] == plain


def test_characters_of_several_tokens_can_be_demanded(model: Model) -> None:
    assert _said(model, "Hi", replace(GREEDY, grammar='root ::= "東京🧿"')) == ("東京🧿", "end")


@pytest.mark.slow
def test_control_tokens_are_no_text(model: Model) -> None:
    # The name of the token that begins a message, which a grammar could take for these characters.
    asked = replace(GREEDY, grammar='root ::= "<|im_start|>user"')
    assert _said(model, "Hi", asked) == ("<|im_start|>user", "end")


@pytest.mark.slow
def test_what_no_token_can_write_is_an_error_and_the_engine_goes_on(model: Model) -> None:
    with pytest.raises(BadGrammar, match="allows nothing more here"):
        _said(model, "Hi", replace(GREEDY, grammar='root ::= "yes" [\\x00]'))
    assert "Paris" in _said(model, "Name the capital of France.", GREEDY)[0]


def test_a_dead_end_is_the_error_of_its_own_reply_only(model: Model) -> None:
    other = model.complete("one two three four five six seven one two three", sampling=GREEDY, max_tokens=4)
    dead = model.complete("Yes or no?", sampling=replace(GREEDY, grammar='root ::= "yes" [\\x00]'), max_tokens=4)
    assert next(other)
    assert next(dead) == "yes"
    assert len(list(other)) == 3  # while these are computed, the other reply comes to its dead end
    with pytest.raises(BadGrammar, match="allows nothing more here"):
        list(dead)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["person", "oneOf by a kind", "anyOf", "allOf", "list of lists", "format date-time"])
def test_json_of_a_schema(model: Model, name: str) -> None:
    # With samplers that keep a tiny model from going on without an end.
    asked = Sampling(temperature=0.7, seed=1, schema=SCHEMAS[name], repeat_penalty=1.1, dry_multiplier=0.8)
    text, reason = _said(model, "Describe a person in JSON.", asked, 400)
    assert reason == "end"
    Draft202012Validator(SCHEMAS[name]).validate(json.loads(text))


def test_a_class_with_a_schema_is_one(model: Model) -> None:
    class Answer:
        @staticmethod
        def model_json_schema() -> dict[str, object]:
            return {"properties": {"capital": {"type": "string", "maxLength": 20}}, "required": ["capital"]}

    text, _ = _said(model, "What is the capital of France? Answer in JSON.", replace(GREEDY, schema=Answer))
    assert json.loads(text) == {"capital": "Paris"}


def test_a_grammar_and_a_schema_is_one_too_many() -> None:
    with pytest.raises(ValueError, match="not both"):
        Sampling(grammar='root ::= "a"', schema={"type": "string"})


def test_a_schema_that_cannot_be_expressed_is_told_at_once(model: Model) -> None:
    with pytest.raises(BadGrammar, match='at #/items: "not" cannot be expressed'):
        model.complete("Hi", sampling=Sampling(schema={"items": {"not": {}}}))


@pytest.mark.parametrize(
    ("grammar", "told"),
    [
        ('root ::= "a', "line 1, column 10"),
        ('root ::= ("a" | "")*', "llama.cpp does not follow the grammar: .*left recursion"),
    ],
)
def test_a_grammar_that_cannot_be_followed_is_told_at_once(model: Model, grammar: str, told: str) -> None:
    with pytest.raises(BadGrammar, match=told):
        list(model.complete("Hi", sampling=replace(GREEDY, grammar=grammar)))
