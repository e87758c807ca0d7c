"""Chat templates are foreign code: they get what published ones use, and nothing else."""

from __future__ import annotations

from datetime import datetime

import pytest

from localllm.chat_template import ChatTemplate
from localllm.errors import BadTemplate

HELLO = [{"role": "user", "content": "Hello"}]


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
    assert ChatTemplate(source, {"bos_token": "<s>"}).render([{"role": "user", "content": "a<b 'é'"}]) == expected


def test_the_date_is_told() -> None:
    source = "{{ strftime_now('%d %b %Y') }}"
    assert ChatTemplate("{{ strftime_now('%Y') }}", {}).render(HELLO).isdigit()
    assert ChatTemplate(source, {}, now=datetime(2026, 2, 1)).render(HELLO) == "01 Feb 2026"


def test_tools_and_an_open_end_are_given_when_asked_for() -> None:
    source = "{% if tools %}{{ tools[0].name }}{% endif %}{% if add_generation_prompt %}>{% endif %}"
    assert ChatTemplate(source, {}).render(HELLO) == ">"
    assert ChatTemplate(source, {}).render(HELLO, tools=[{"name": "clock"}], answer_next=False) == "clock"


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
        ChatTemplate(source, {}).render(HELLO)


def test_a_template_that_refuses_gives_its_reason() -> None:
    source = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}ok"
    with pytest.raises(BadTemplate, match="System role not supported") as caught:
        ChatTemplate(source, {}).render([{"role": "system", "content": "Be brief."}, *HELLO])
    assert "--system" in caught.value.hint
    assert ChatTemplate(source, {}).render(HELLO) == "ok"


def test_a_template_that_does_not_parse_is_an_error() -> None:
    with pytest.raises(BadTemplate, match="does not parse"):
        ChatTemplate("{% for %}", {})
