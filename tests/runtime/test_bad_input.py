"""What nobody should ask is refused, each in words of its own, and the engine answers the next question."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.errors import BadGrammar, BadText, ContextFull, EngineDied
from localllm.runtime.model import Model
from localllm.runtime.options import Options
from localllm.runtime.process import ModelProcess
from localllm.runtime.sampling import Sampling
from localllm.runtime.types import Message
from tests.runtime.conftest import GREEDY

Ask = Callable[[Any], Any]


def _said(text: str) -> list[Message]:
    return [Message("user", text)]


def _with(**sampling: Any) -> Ask:
    return lambda model: list(model.complete("Hi", sampling=Sampling(**sampling), max_tokens=4))


NOT_UTF8 = b"caf\xe9 au lait".decode("utf-8", "surrogateescape")

QUESTIONS: dict[str, tuple[Ask, type[Exception], str]] = {
    "an empty prompt": (lambda model: model.complete(""), ValueError, "the prompt is empty"),
    "a prompt of bytes": (lambda model: model.complete(b"Hi"), TypeError, "the prompt is a text, not bytes"),
    "no messages": (lambda model: model.reply([]), ValueError, "there are no messages to answer"),
    "below no tokens": (lambda model: model.complete("Hi", max_tokens=-1), ValueError, "-1 tokens at most are fewer"),
    "half a pair": (
        lambda model: list(model.complete("ab\ud800")),
        BadText,
        r"at character 3 .*, U\+D800",
    ),
    "bytes that were no text": (
        lambda model: list(model.reply(_said(NOT_UTF8))),
        BadText,
        "The text is no valid UTF-8: at character 4 there is the byte 0xe9",
    ),
    "one of several messages": (
        lambda model: list(model.reply([*_said("Hi"), Message("assistant", "a\ud800")])),
        BadText,
        r"Message 2, by assistant, is no valid UTF-8: at character 2 ",
    ),
    "tokens of what is no text": (lambda model: model.tokenize("\udcff"), BadText, "no valid UTF-8: at character 1 "),
    "a bias for no text": (_with(logit_bias={"\ud800": 1.0}), BadText, "no valid UTF-8"),
    "a bias for no token": (_with(logit_bias={1 << 20: 1.0}), ValueError, "not in the vocabulary"),
    "tokens out of range": (lambda model: model.logits([0, 1 << 20]), ValueError, "token 1048576 is not in"),
    "a grammar that does not parse": (_with(grammar='root ::= "a'), BadGrammar, "line 1, column 10"),
    "a grammar of bytes": (_with(grammar=b"root"), TypeError, "a grammar is a text in GBNF, not bytes"),
    "a schema that cannot be expressed": (_with(schema={"not": {}}), BadGrammar, '"not" cannot be expressed'),
    "a schema that is always itself": (_with(schema={"anyOf": [{"$ref": "#"}]}), BadGrammar, "begins with itself"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_bad_questions(model: Model, name: str) -> None:
    ask, kind, told = QUESTIONS[name]
    with pytest.raises(kind, match=told):
        ask(model)
    assert "".join(model.complete("The capital of France is", sampling=GREEDY, max_tokens=1)) == " Paris"


@pytest.fixture(scope="module")
def remote(smollm2: Path) -> Iterator[ModelProcess]:
    with ModelProcess.load(smollm2, Options(n_ctx=512)) as model:
        yield model


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_bad_questions_to_a_child_process(remote: ModelProcess, name: str) -> None:
    ask, kind, told = QUESTIONS[name]
    with pytest.raises(kind, match=told):
        ask(remote)
    assert "".join(remote.complete("The capital of France is", sampling=GREEDY, max_tokens=1)) == " Paris"


@pytest.mark.slow
def test_a_prompt_of_a_million_tokens(model: Model) -> None:
    with pytest.raises(ContextFull, match=r"1,000,001 tokens and the context holds 1,024: 998,978 too many"):
        list(model.complete("word " * 1_000_000))
    with pytest.raises(ContextFull, match=r"1,000,\d\d\d tokens and the context holds 1,024"):
        list(model.reply(_said("word " * 1_000_000)))
    assert "".join(model.complete("The capital of France is", sampling=GREEDY, max_tokens=1)) == " Paris"


@pytest.mark.slow
def test_a_conversation_loses_nothing_to_a_bad_question(model: Model) -> None:
    chat = model.chat(sampling=GREEDY, max_tokens=16)
    chat.ask("Name the capital of France.")
    before = list(chat.messages)
    with pytest.raises(BadText):
        chat.ask("\ud800")
    chat.sampling = Sampling(grammar="root ::= (")
    with pytest.raises(BadGrammar):
        chat.ask("And of Germany?")
    assert chat.messages == before
    chat.sampling = GREEDY
    assert "Berlin" in chat.ask("And of Germany?")


def test_a_schema_that_goes_too_deep_is_told(model: Model) -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"items": deep}
    with pytest.raises(BadGrammar, match="parts within parts too deep"):
        model.complete("Hi", sampling=Sampling(schema=deep))


AFTER_CLOSE: dict[str, Callable[[Model], Any]] = {
    "reply": lambda model: model.reply(_said("Hi")),
    "complete": lambda model: model.complete("Hi"),
    "fill": lambda model: model.fill("a", "b"),
    "chat": lambda model: model.chat().ask("Hi"),
    "tokenize": lambda model: model.tokenize("Hi"),
    "embed": lambda model: model.embed(["Hi"], pooling="mean"),
    "logits": lambda model: model.logits([1]),
    "forget": lambda model: model.forget(),
}


@pytest.mark.slow
def test_after_close_everything_says_so(smollm2: Path) -> None:
    model = Model.load(smollm2, Options(n_ctx=256))
    begun = model.complete("Once upon a time", sampling=GREEDY)
    next(begun)
    model.close()
    assert list(begun) == []
    for name, ask in AFTER_CLOSE.items():
        with pytest.raises(EngineDied, match="The model is closed"):
            ask(model)
        assert name
    model.close()
    assert model.context_used() == 0


FORKED = """
import os, sys
from pathlib import Path
from localllm import EngineDied, Model, ModelProcess, Options

path, options = Path(sys.argv[1]), Options(n_ctx=256)
model = Model.load(path, options)
list(model.complete("Once", max_tokens=2))
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for ask in (
    lambda: list(model.complete("Once", max_tokens=2)),
    lambda: list(Model.load(path, options).complete("Once", max_tokens=2)),
    lambda: model.logits([1, 2]),
):
    try:
        ask()
        os._exit(1)
    except EngineDied as error:
        print(error.message, error.hint, flush=True)
with ModelProcess.load(path, options) as other:
    print(other.info.name, len(list(other.complete("Once", max_tokens=2))) > 0, flush=True)
os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_says_so_and_may_use_another_one(smollm2: Path) -> None:
    program = [sys.executable, "-W", "ignore", "-c", FORKED, str(smollm2)]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=120)
    *refused, last = done.stdout.splitlines()
    assert len(refused) == 3
    assert all("was forked" in line and "load_process" in line for line in refused)
    assert last.endswith("True")
