"""Chat templates: rendered as their models expect, in a sandbox, and tokenized without losing what was generated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.errors import BadTemplate
from localllm.native.vocab import Vocab, open_vocab
from localllm.runtime.template import ChatTemplate, TokenMemory
from localllm.runtime.types import Message

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HELLO = [Message("user", "Hello")]


@pytest.fixture(scope="module")
def vocab(smollm2: Path) -> Iterator[Vocab]:
    with open_vocab(smollm2) as vocab:
        yield vocab


def test_it_ends_where_the_model_answers() -> None:
    assert ChatTemplate(CHATML).render(HELLO) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_a_last_message_of_the_assistant_is_left_open() -> None:
    text = ChatTemplate(CHATML).render([*HELLO, Message("assistant", "Hi, I")])
    assert text.endswith("<|im_start|>assistant\nHi, I")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] | tojson }}", "<s>\"a<b 'é'\""),
        ("{% generation %}x{{ messages|length }}{% endgeneration %}", "x1"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% if tools is none %}no tools{% endif %}", "no tools"),
        ("{{ messages[0]['content'] | tojson(ensure_ascii=True, indent=1) }}", "\"a<b '\\u00e9'\""),
    ],
)
def test_what_published_templates_use(source: str, expected: str) -> None:
    assert ChatTemplate(source, bos="<s>").render([Message("user", "a<b 'é'")]) == expected


def test_the_date_is_told() -> None:
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(HELLO).isdigit()


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append('x') }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_hostile_template_gets_nowhere(source: str) -> None:
    with pytest.raises(BadTemplate):
        ChatTemplate(source).render(HELLO)


def test_a_template_that_refuses_gives_its_reason() -> None:
    source = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}ok"
    with pytest.raises(BadTemplate, match="System role not supported") as caught:
        ChatTemplate(source).render([Message("system", "Be brief."), *HELLO])
    assert "--system" in caught.value.hint
    assert ChatTemplate(source).render(HELLO) == "ok"


def test_a_template_that_does_not_parse_is_an_error() -> None:
    with pytest.raises(BadTemplate, match="does not parse"):
        ChatTemplate("{% for %}")


def test_generated_tokens_are_kept_as_they_were(vocab: Vocab) -> None:
    memory = TokenMemory(vocab)
    prompt = memory.tokenize("<|im_start|>assistant\n")
    # A cut of "Paris" that no tokenizer makes, as a model may sample it.
    odd = [token for part in ("Pa", "ris") for token in vocab.tokenize(part, add_special=False, parse_special=False)]
    memory.generated("<|im_start|>assistant\n", prompt, "Paris", odd)
    tail = vocab.tokenize("<|im_end|>\n", add_special=False, parse_special=True)
    assert memory.tokenize("<|im_start|>assistant\nParis<|im_end|>\n") == [*prompt, *odd, *tail]
    memory.forget()
    assert memory.tokenize("<|im_start|>assistant\nParis<|im_end|>\n") != [*prompt, *odd, *tail]


def test_an_answer_that_a_template_strips_is_still_known(vocab: Vocab) -> None:
    memory = TokenMemory(vocab)
    spoken = vocab.tokenize(" Paris\n", add_special=False, parse_special=False)
    memory.generated("Q:", [1, 2], " Paris\n", spoken)
    assert memory.tokenize("Q:Paris<|im_end|>")[: 2 + len(spoken)] == [1, 2, *spoken]


def test_a_word_that_runs_on_is_tokenized_whole(vocab: Vocab) -> None:
    memory = TokenMemory(vocab)
    cat = vocab.tokenize(" cat", add_special=False, parse_special=False)
    memory.generated("A", vocab.tokenize("A", add_special=False, parse_special=False), " cat", cat)
    assert memory.tokenize("A catalogue") == vocab.tokenize("A catalogue", add_special=False, parse_special=False)


def test_the_memory_is_bounded(vocab: Vocab) -> None:
    memory = TokenMemory(vocab, capacity=6)
    for number in range(9):
        memory.generated(f"{number}:", [number], "answer", [99])
    assert memory.tokenize("8:answer") == [8, 99]
    assert memory.tokenize("1:answer") != [1, 99]
