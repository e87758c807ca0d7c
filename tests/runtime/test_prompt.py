"""A conversation becomes a prompt: what a template does to earlier turns is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.chat_template import ChatTemplate
from localllm.native.vocab import Vocab, open_vocab
from localllm.runtime.prompt import Prompt, Prompter
from localllm.runtime.template import TokenMemory
from localllm.runtime.types import Message

HIDES_THOUGHTS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'].split('</think>')[-1] if message['role'] == 'assistant' else message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THOUGHT = "<think>The user greets me. I greet back, and ask what there is to do.</think>Hello! What can I do?"
ANSWERED = [Message("user", "Hello"), Message("assistant", THOUGHT), Message("user", "Nothing.")]


@pytest.fixture(scope="module")
def vocab(smollm2: Path) -> Iterator[Vocab]:
    with open_vocab(smollm2) as vocab:
        yield vocab


def prompts(vocab: Vocab, template: str = HIDES_THOUGHTS) -> tuple[Prompter, TokenMemory]:
    memory = TokenMemory(vocab)
    return Prompter(memory, lambda: ChatTemplate(template, {}), 512, "stop"), memory


def answer(vocab: Vocab, memory: TokenMemory, prompt: Prompt, text: str) -> int:
    tokens = vocab.tokenize(text, add_special=False, parse_special=True)
    memory.generated(prompt.text, prompt.whole, text, tokens)
    return len(tokens)


def test_a_template_that_hides_thoughts_loses_the_answer(vocab: Vocab) -> None:
    prompter, memory = prompts(vocab)
    first = prompter.conversation(ANSWERED[:1], 0).first()
    assert first.rewritten_tokens == 0
    spoken = answer(vocab, memory, first, THOUGHT)
    second = prompter.conversation(ANSWERED, 0).first()
    assert second.rewritten_tokens == spoken
    assert second.tokens[: len(first.tokens)] == first.tokens


def test_a_template_that_keeps_them_loses_nothing(vocab: Vocab) -> None:
    prompter, memory = prompts(vocab, HIDES_THOUGHTS.replace("</think>", "</other>"))
    first = prompter.conversation(ANSWERED[:1], 0).first()
    answer(vocab, memory, first, THOUGHT)
    second = prompter.conversation(ANSWERED, 0).first()
    assert second.rewritten_tokens == 0
    assert len(second.tokens) > len(first.tokens)


CHANNELS = (
    "{% for message in messages %}{% if '<|channel|>' in message.content %}"
    "{{ raise_exception('channels in the content') }}{% endif %}<|im_start|>{{ message.role }}\n"
    "{% if message.thinking and loop.last %}{{ message.thinking }}{% endif %}"
    "{{ '<|channel|>final<|message|>' if message.role == 'assistant' }}{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IN_CHANNELS = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello!"


def test_a_template_of_channels_is_given_the_answer_and_the_thought_beside_it(vocab: Vocab) -> None:
    prompter, memory = prompts(vocab, CHANNELS)
    talk = [Message("user", "Hello"), Message("assistant", IN_CHANNELS), Message("user", "Nothing.")]
    first = prompter.conversation(talk[:1], 0).first()
    answer(vocab, memory, first, IN_CHANNELS)
    second = prompter.conversation(talk, 0).first()
    assert "assistant\n<|channel|>final<|message|>Hello!<|im_end|>" in second.text
    assert second.tokens[: len(first.tokens)] == first.tokens
    going_on = prompter.conversation(talk[:2], 0).first()
    assert going_on.text == first.text + IN_CHANNELS, "what goes on is left as the model wrote it"
    assert going_on.rewritten_tokens == 0


def test_nothing_is_lost_of_what_was_never_computed(vocab: Vocab) -> None:
    prompter, _ = prompts(vocab)
    assert prompter.conversation(ANSWERED, 0).first().rewritten_tokens == 0


def test_a_full_context_is_the_end_where_nothing_may_go(vocab: Vocab) -> None:
    prompter, _ = prompts(vocab)
    source = prompter.conversation(ANSWERED, 0)
    assert source.more(source.first().tokens) is None
    assert prompter.raw("Once upon").more(source.first().tokens) is None


def test_a_conversation_is_tokenized_once(vocab: Vocab, monkeypatch: pytest.MonkeyPatch) -> None:
    prompter, _ = prompts(vocab)
    seen: list[str] = []
    tokenize = vocab.tokenize_prompt

    def watched(text: str) -> list[int]:
        seen.append(text)
        return tokenize(text)

    monkeypatch.setattr(vocab, "tokenize_prompt", watched)
    prompt = prompter.conversation([Message("system", "Be brief."), *ANSWERED[:1]], 0).first()
    assert seen == [prompt.text]
