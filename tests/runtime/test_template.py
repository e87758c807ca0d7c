"""A conversation as a prompt: open at its end, and tokenized without losing what was generated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.chat_template import ChatTemplate
from localllm.native.vocab import Vocab, open_vocab
from localllm.runtime.template import TokenMemory, render
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
    assert render(ChatTemplate(CHATML, {}), HELLO) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_a_last_message_of_the_assistant_is_left_open() -> None:
    text = render(ChatTemplate(CHATML, {}), [*HELLO, Message("assistant", "Hi, I")])
    assert text.endswith("<|im_start|>assistant\nHi, I")


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


def test_an_answer_of_blanks_is_not_the_prompt(vocab: Vocab) -> None:
    memory = TokenMemory(vocab)
    prompt = memory.tokenize("Q:")
    memory.generated("Q:", prompt, "  ", vocab.tokenize("  ", add_special=False, parse_special=False))
    assert memory.tokenize("Q:") == prompt


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
