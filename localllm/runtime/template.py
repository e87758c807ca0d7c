"""A conversation as a prompt: rendered by the model's chat template, and tokenized without doing work twice.

Tokens that the model generated are never made again from text: each turn is rendered in full, compared with what was
generated before, and only what follows is tokenized.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from localllm.native.vocab import Vocab
from localllm.runtime import channels
from localllm.runtime.snapshot_file import KnownText
from localllm.runtime.thinking import parted
from localllm.runtime.tokens import shared
from localllm.runtime.types import Message

if TYPE_CHECKING:  # jinja2 takes time to import
    from localllm.chat_template import ChatTemplate

UNEVALUATED = 8
"""Tokens of an answer that may have been sampled and not evaluated when it was stopped; a little more than are."""

COUNTS = 4096
"""Of this many texts `TokenMemory` remembers how many tokens they are."""


def render(template: ChatTemplate, messages: Sequence[Message]) -> str:
    """The text up to where the model answers. A last message by `assistant` is left open, to be continued.

    Raises:
        BadTemplate: the template refuses or fails on these messages; the message holds its reason.
    """
    open_text = ""
    if messages and messages[-1].role == "assistant":
        messages, open_text = messages[:-1], messages[-1].content
    return template.render([_fields(message) for message in messages]) + open_text


def _fields(message: Message) -> dict[str, str]:
    """A message as templates read it. Most cut a thought out of the answer themselves, or leave it as it was written.
    That of gpt-oss, whose replies are in channels, refuses it there and wants it beside.
    """
    fields = {"role": message.role, "content": message.content}
    if message.role == "assistant" and channels.begins(message.content):
        said = parted(message.content)
        fields |= {"content": said.answer, "thinking": said.thought or "", "reasoning_content": said.thought or ""}
    return fields


class TokenMemory:
    """What the model generated, as text and as tokens, so that later prompts hold the very tokens it generated.

    Text alone does not tell them: a tokenizer may cut the same text otherwise than the model did. Keeps the last texts,
    up to `capacity` tokens together.
    """

    def __init__(self, vocab: Vocab, capacity: int = 1 << 21) -> None:
        self._vocab = vocab
        self._capacity = capacity
        self._known: OrderedDict[str, array[int]] = OrderedDict()
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a whole prompt, its first special token included once.

        Only what follows the longest known text is tokenized, and only if a word cannot run across the border.
        """
        with self._lock:
            fitting = [one for one in self._known if text.startswith(one) and not text[len(one) :][:1].isalnum()]
            start = max(fitting, key=len, default=None)
            if start is not None:
                self._known.move_to_end(start)
                known = self._known[start]
        # Not under the lock: a long text takes seconds, and others that go on must not wait for it.
        if start is None:
            return self._vocab.tokenize_prompt(text)
        return [*known, *self._vocab.tokenize_tail(text[len(start) :])]

    def known(self, text: str) -> array[int] | None:
        """The tokens of a text that ends with what the model generated, if it did."""
        with self._lock:
            return self._known.get(text)

    def count(self, text: str) -> int:
        """How many tokens a part of a prompt is, about: at its borders it may be cut otherwise."""
        with self._lock:
            count = self._counts.get(text)
        if count is None:
            count = len(self._vocab.tokenize_tail(text))
            with self._lock:
                if len(self._counts) >= COUNTS:
                    self._counts.clear()
                self._counts[text] = count
        return count

    def generated(self, prompt: str, tokens: Sequence[int], answer: str, answer_tokens: Sequence[int]) -> None:
        """Remember that the model, after `prompt`, wrote `answer` as `answer_tokens`.

        Many templates strip the blanks around an answer when it becomes history; the tokens that stand in the KV cache
        are what the model said, so they stand for the stripped text as well.
        """
        whole = array("i", tokens) + array("i", answer_tokens)
        with self._lock:
            # An answer of nothing but blanks is, stripped, the prompt: that has tokens of its own.
            for said in {answer, answer.strip()} - {""}:
                self._known[prompt + said] = whole
                self._known.move_to_end(prompt + said)
            while len(self._known) > 1 and sum(map(len, self._known.values())) > self._capacity:
                self._known.popitem(last=False)

    def texts_of(self, tokens: array[int]) -> tuple[KnownText, ...]:
        """What is known of the text of `tokens`, of which the last few may not have been evaluated yet."""
        with self._lock:
            fitting = [
                KnownText(text, known)
                for text, known in self._known.items()
                if shared(known, tokens) >= min(len(known), len(tokens)) and len(known) - len(tokens) <= UNEVALUATED
            ]
        longest = max((len(known.tokens) for known in fitting), default=0)
        return tuple(known for known in fitting if len(known.tokens) == longest)

    def learn(self, texts: Iterable[KnownText]) -> None:
        """Remember what `texts_of` told an earlier process."""
        with self._lock:
            for known in texts:
                self._known[known.text] = known.tokens

    def forget(self) -> None:
        """Empty the memory."""
        with self._lock:
            self._known.clear()
            self._counts.clear()
