"""The sandbox in which chat templates run: messages to the text a model was trained on.

A template comes from a model file or a checkpoint, so it is foreign code: it runs in Jinja's immutable sandbox, with
what transformers gives it and nothing else. Knows no model, no tokens and no conversation beyond its messages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import CodeType
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from localllm.errors import BadTemplate


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
    """One template. `special` are the texts of special tokens by the names that templates use: `bos_token`…

    Templates that print the date print that of `now`, or of the clock.
    """

    def __init__(self, source: str, special: Mapping[str, str], *, now: datetime | None = None) -> None:
        environment = _environment()
        environment.globals["strftime_now"] = lambda pattern: (now or datetime.now()).strftime(pattern)
        self._special = special
        self._template = jinja2.Template.from_code(environment, compiled(source), environment.make_globals(None))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        answer_next: bool = True,
    ) -> str:
        """The text of `messages`, each with `role` and `content`, and with `answer_next` the start of an answer.

        Raises:
            BadTemplate: the template refuses or fails on these messages; the message holds its reason.
        """
        try:
            return self._template.render(
                messages=messages,
                add_generation_prompt=answer_next,
                tools=tools,
                documents=None,
                **self._special,
            )
        except Exception as error:  # it is foreign code, and may fail in any way
            system = any(message["role"] == "system" for message in messages)
            hint = "Some models take no system prompt: try without --system." if system else "Try --raw."
            raise BadTemplate(
                f"The model's chat template does not render this conversation: {error}", hint=hint
            ) from error


@functools.lru_cache(maxsize=8)
def compiled(source: str) -> CodeType:
    """A template as Python's byte code, which takes milliseconds to make and is remembered.

    Raises:
        BadTemplate: it does not parse.
    """
    try:
        return _environment().compile(source)
    except jinja2.TemplateError as error:
        raise BadTemplate(
            f"The model's chat template does not parse: {error}.", hint="Use --raw, or another file of this model."
        ) from error


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Plain JSON. Jinja's own filter escapes `<` and `'` for HTML, which a model has never seen."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)
