"""Chat templates: messages to the text a model was trained on, and that text to tokens without doing work twice.

A template comes from a model file, so it runs in Jinja's immutable sandbox. Tokens that the model generated are never
made again from text: each turn is rendered in full, compared with what was generated before, and only what follows is
tokenized.
"""

from __future__ import annotations

import json
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localllm.errors import BadTemplate
from localllm.native.vocab import Vocab
from localllm.runtime.types import Message


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks the assistant's part for training; here it renders as its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own interface)

    def parse(self, parser: Parser) -> Node | list[Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller: Any) -> str:
        return str(caller())


class ChatTemplate:
    """One model's template. `bos` and `eos` are the texts of those tokens, which templates print."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
        self._special = {"bos_token": bos, "eos_token": eos}
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise BadTemplate(
                f"The model's chat template does not parse: {error}.", hint="Use --raw, or another file of this model."
            ) from error

    def render(self, messages: Sequence[Message]) -> str:
        """The text up to where the model answers. A last message by `assistant` is left open, to be continued.

        Raises:
            BadTemplate: the template refuses or fails on these messages; the message holds its reason.
        """
        open_text = ""
        if messages and messages[-1].role == "assistant":
            messages, open_text = messages[:-1], messages[-1].content
        try:
            text = self._template.render(
                messages=[{"role": message.role, "content": message.content} for message in messages],
                add_generation_prompt=True,
                tools=None,
                documents=None,
                **self._special,
            )
        except Exception as error:  # it is foreign code, and may fail in any way
            system = any(message.role == "system" for message in messages)
            hint = "Some models take no system prompt: try without --system." if system else "Try --raw."
            raise BadTemplate(
                f"The model's chat template does not render this conversation: {error}", hint=hint
            ) from error
        return text + open_text


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Plain JSON. Jinja's own filter escapes `<` and `'` for HTML, which a model has never seen."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


class TokenMemory:
    """What the model generated, as text and as tokens, so that later prompts hold the very tokens it generated.

    Text alone does not tell them: a tokenizer may cut the same text otherwise than the model did. Keeps the last texts,
    up to `capacity` tokens together.
    """

    def __init__(self, vocab: Vocab, capacity: int = 1 << 21) -> None:
        self._vocab = vocab
        self._capacity = capacity
        self._known: OrderedDict[str, array[int]] = OrderedDict()

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a whole prompt, its first special token included once.

        Only what follows the longest known text is tokenized, and only if a word cannot run across the border.
        """
        fitting = (known for known in self._known if text.startswith(known) and not text[len(known) :][:1].isalnum())
        start = max(fitting, key=len, default=None)
        if start is not None:
            self._known.move_to_end(start)
            return [*self._known[start], *self._vocab.tokenize_tail(text[len(start) :])]
        return self._vocab.tokenize_prompt(text)

    def generated(self, prompt: str, tokens: Sequence[int], answer: str, answer_tokens: Sequence[int]) -> None:
        """Remember that the model, after `prompt`, wrote `answer` as `answer_tokens`.

        Many templates strip the blanks around an answer when it becomes history; the tokens that stand in the KV cache
        are what the model said, so they stand for the stripped text as well.
        """
        if not answer:
            return
        for said in {answer, answer.strip()}:
            self._known[prompt + said] = array("i", (*tokens, *answer_tokens))
            self._known.move_to_end(prompt + said)
        while len(self._known) > 1 and sum(map(len, self._known.values())) > self._capacity:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """Empty the memory."""
        self._known.clear()
