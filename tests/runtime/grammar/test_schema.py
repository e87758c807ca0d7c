"""Whatever text follows the grammar of a schema is JSON that the schema accepts; the rest is refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from localllm.errors import BadGrammar
from localllm.native import lib
from localllm.native.handles import open_model
from localllm.native.vocab import Vocab
from localllm.runtime.grammar.schema import as_grammar
from tests.runtime.grammar.random_text import RandomText

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "A person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 130},
        "email": {"type": ["string", "null"], "format": "email"},
        "address": {
            "type": "object",
            "properties": {
                "street": {"type": "string"},
                "zip": {"type": "string", "pattern": "^[0-9]{5}(-[0-9]{4})?$"},
            },
            "required": ["zip"],
            "additionalProperties": False,
        },
        "tags": {"type": "array", "items": {"enum": ["a", "b\n", 'c"d']}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age"],
}

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "number"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["value"],
            "additionalProperties": False,
        }
    },
}

SCHEMAS: dict[str, Any] = {
    "anything": True,
    "empty": {},
    "person": PERSON,
    "tree": TREE,
    "any object": {"type": "object"},
    "any array": {"type": "array"},
    "types": {"type": ["integer", "boolean", "null", "array"]},
    "enum of all kinds": {"enum": [1, 1.5, None, True, "é\u2028", [1, {"a": "b"}], {"x": []}, "\ud800"]},
    "const": {"const": {"kind": "x", "n": [1, 2]}},
    "enum and type": {"type": "string", "enum": ["a", 1, "b"]},
    "integers": {"type": "integer", "minimum": -17, "maximum": 2345},
    "numbers": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "numbers of draft 4": {"type": "array", "items": {"minimum": 3, "maximum": 9.5, "type": "number"}},
    "wide numbers": {"type": "number", "minimum": -2.75, "maximum": 1234.5},
    "lengths": {"type": "string", "minLength": 2, "maxLength": 5},
    "empty string": {"type": "string", "maxLength": 0},
    "array of 2 to 4": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "array of none": {"type": "array", "maxItems": 0},
    "tuple": {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 1},
    "tuple and more": {
        "type": "array",
        "prefixItems": [{"const": 1}],
        "items": {"const": 2},
        "minItems": 3,
        "maxItems": 5,
    },
    "tuple of draft 7": {"type": "array", "items": [{"const": 1}, {"const": 2}], "additionalItems": {"const": 3}},
    "optional": {
        "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}},
        "additionalProperties": False,
    },
    "optional and required": {
        "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}, "d": {"const": 4}},
        "required": ["b", "d"],
    },
    "others": {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "ab": {"type": "integer"},
            "": {"type": "null"},
            'q"': {"type": "null"},
        },
        "required": ["ab"],
        "additionalProperties": {"type": "string"},
    },
    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 3, "minProperties": 1},
    "map by names": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-c]{2}$"},
        "additionalProperties": {"const": 0},
    },
    "map by enum": {"type": "object", "propertyNames": {"enum": ["x", "y"]}},
    "required but unknown": {"type": "object", "required": ["a", "b"], "additionalProperties": {"type": "integer"}},
    "required and anything": {"type": "object", "required": ["a"]},
    "anyOf": {"anyOf": [{"type": "integer"}, {"type": "object", "properties": {"x": {"type": "null"}}}, False][:2]},
    "anyOf beside": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        "additionalProperties": False,
    },
    "oneOf by a kind": {
        "oneOf": [
            {"properties": {"kind": {"const": "a"}, "n": {"type": "integer"}}, "required": ["kind", "n"]},
            {"properties": {"kind": {"const": "b"}, "s": {"type": "string"}}, "required": ["kind"]},
        ],
        "type": "object",
    },
    "oneOf by type": {"oneOf": [{"type": "string"}, {"type": "number"}, {"const": None}]},
    "allOf": {
        "allOf": [
            {"$ref": "#/$defs/named"},
            {"properties": {"size": {"minimum": 2}}, "required": ["size"]},
            {"properties": {"size": {"type": "integer", "maximum": 9}}},
        ],
        "$defs": {"named": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
    },
    "a reference with company": {
        "properties": {"p": {"$ref": "#/definitions/small", "minimum": 5}},
        "required": ["p"],
        "definitions": {"small": {"type": "integer", "maximum": 10}},
    },
    "list of lists": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
    "mutual recursion": {
        "$ref": "#/$defs/a~1b",
        "$defs": {
            "a/b": {"type": "array", "items": {"$ref": "#/$defs/c"}, "maxItems": 2},
            "c": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a~1b"}]},
        },
    },
    **{
        f"format {name}": {"type": "string", "format": name}
        for name in ("date", "time", "date-time", "uuid", "ipv4", "email", "uri")
    },
}

PATTERNS = [
    "^[a-z]+$",
    "abc",
    "^a|b$",
    "^$",
    "",
    "^\\d{2,4}-\\w+\\s\\S\\W\\D$",
    "^(?:foo|ba[rz])(qux)?$",
    '^"[^"]*\\\\$',
    "^[^a-z]{3}$",
    "^.{2}\\.$",
    "^a.*b+?$",
    "^[\\w.-]+@[\\w-]+\\.(com|org)$",
    "^(?<year>[12]\\d{3})\\/(0[1-9]|1[0-2])$",
    "^\\u00e9\\x41[\\t\\n]$",
    "^[\\^\\]a-]$",
    "^(a{2}|b{0,3}c){2}$",
    "^\\x01$",
]


def _valid(schema: Any, seeds: int = 60) -> int:
    """Checks random texts; returns how many there were that differ."""
    Draft202012Validator.check_schema(schema)
    checker = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    grammar = as_grammar(schema)
    texts = set()
    for seed in range(seeds):
        text = RandomText(grammar, seed).text()
        checker.validate(json.loads(text))
        texts.add(text)
    return len(texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCHEMAS)
def test_every_text_that_follows_is_valid(name: str) -> None:
    schema = SCHEMAS[name]
    if name == "tuple of draft 7":  # whose list of items the newer standard does not know
        grammar = as_grammar(schema)
        for seed in range(60):
            values = json.loads(RandomText(grammar, seed).text())
            assert values[:2] == [1, 2][: len(values)]
            assert set(values[2:]) <= {3}
        return
    assert _valid(schema) >= (1 if name in ("const", "empty string", "array of none") else 2)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_string_of_a_pattern_matches(pattern: str) -> None:
    if "(?<" not in pattern:  # which the checker's Python writes otherwise
        _valid({"type": "string", "pattern": pattern})
    grammar = as_grammar({"type": "string", "pattern": pattern})
    python = re.compile(pattern.replace("(?<", "(?P<"), re.ASCII)
    for seed in range(60, 120):
        assert python.search(json.loads(RandomText(grammar, seed).text()))


@pytest.mark.slow
def test_all_that_is_optional_can_be_there_or_not() -> None:
    grammar = as_grammar(SCHEMAS["optional and required"])
    found = {frozenset(json.loads(RandomText(grammar, seed).text())) for seed in range(200)}
    assert found == {frozenset(keys) for keys in ("bd", "abd", "bcd", "abcd")}
    grammar = as_grammar(SCHEMAS["optional"])
    found = {frozenset(json.loads(RandomText(grammar, seed).text())) for seed in range(400)}
    assert found == {frozenset(keys) for keys in ("", "a", "b", "c", "ab", "ac", "bc", "abc")}


@pytest.mark.slow
def test_names_that_are_taken_do_not_come_again() -> None:
    grammar = as_grammar(SCHEMAS["others"])
    for seed in range(300):
        pairs = json.loads(RandomText(grammar, seed).text(), object_pairs_hook=list)
        keys = [key for key, _ in pairs]
        assert all(keys.count(key) <= 1 for key in ("a", "ab", "", 'q"'))


@pytest.mark.slow
def test_a_long_list_of_values_shares_their_starts() -> None:
    plain: list[Any] = ["", "a", "ab", "abc", 1, 12, 123, None, "\u00e9"]
    values = [*plain, *(f"value {number}" for number in range(300))]
    grammar = as_grammar({"enum": values})
    found = {RandomText(grammar, seed).text() for seed in range(6000)}
    assert found <= {json.dumps(value, ensure_ascii=False) for value in values}
    assert found >= {json.dumps(value, ensure_ascii=False) for value in plain}
    assert len(found) > 100
    assert len(grammar) < 5000


REFUSED = [
    (False, "at #: false accepts nothing"),
    (5, "at #: a schema is an object or a boolean, not 5"),
    ({"type": "text"}, "there is no type 'text'"),
    ({"not": {"type": "null"}}, '"not" cannot be expressed'),
    ({"type": "object", "properties": {"a": {"items": {"if": True}}}}, 'at #/properties/a/items: "if" cannot'),
    ({"type": "array", "uniqueItems": True}, '"uniqueItems" cannot be expressed'),
    ({"type": "array", "minItems": 3, "maxItems": 2}, '"minItems" 3 is above "maxItems" 2'),
    ({"type": "array", "maxItems": 5000}, "more than 2,000 repetitions"),
    ({"type": "string", "format": "regex"}, "the format 'regex' cannot be expressed; there are date"),
    ({"type": "string", "pattern": "^a$", "minLength": 2}, '"pattern" beside other bounds'),
    ({"type": "string", "pattern": "(?=a)"}, "cannot be expressed: a look ahead or behind, at character"),
    ({"type": "string", "pattern": "a(b"}, "a group without its )"),
    ({"type": "string", "pattern": "[a"}, "a class without its ]"),
    ({"type": "string", "pattern": "\\bword"}, "\\b, at character"),
    ({"type": "string", "pattern": "(a)\\1"}, "\\1, at character"),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "no number within the bounds"),
    ({"type": "integer", "multipleOf": 3}, '"multipleOf" 3 cannot'),
    ({"$ref": "other.json#/a"}, "is not to a place in the schema"),
    ({"$ref": "#/$defs/none"}, "leads nowhere"),
    ({"$ref": "#"}, "a rule begins with itself"),
    ({"allOf": [{"$ref": "#"}]}, "leads back to itself"),
    ({"allOf": [{"type": "string"}, {"type": "null"}]}, "no value is of the types string and null"),
    ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, '"pattern" is said twice'),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, '"oneOf" has choices that may accept the same value'),
    ({"enum": []}, '"enum" is a list of values, not []'),
    ({"type": "integer", "minimum": "x"}, '"minimum" is a number, not "x"'),
    ({"properties": [1]}, '"properties" is an object of schemas, not [1]'),
    ({"items": {"required": 5}}, 'at #/items: "required" is a list of names, not 5'),
    ({"minLength": -5}, '"minLength" is a count, not -5'),
    ({"maxItems": True}, '"maxItems" is a count, not true'),
    ({"anyOf": []}, '"anyOf" is a list of schemas, not []'),
    ({"type": [{}]}, '"type" is the name of a type or a list'),
    ({"multipleOf": 0}, '"multipleOf" is a number above 0'),
    ({"pattern": 3}, '"pattern" is a text, not 3'),
    ({"type": "null", "enum": [1]}, "none of the listed values"),
    ({"enum": ["abc"], "minLength": 2}, '"minLength" beside "enum"'),
    ({"type": "object", "required": ["a"], "additionalProperties": False}, 'required property "a" is not allowed'),
    ({"properties": {"a": {}, "b": {}}, "minProperties": 1}, '"minProperties" above'),
    ({"properties": {"a": {}, "b": {}}, "maxProperties": 1}, '"maxProperties" below'),
    ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "has no end"),
]


@pytest.mark.parametrize(("schema", "told"), REFUSED)
def test_what_cannot_be_expressed_is_told_with_its_place(schema: Any, told: str) -> None:
    with pytest.raises(BadGrammar) as caught:
        as_grammar(schema)
    assert told in caught.value.message


@pytest.fixture(scope="module")
def vocab(smollm2: Path) -> Iterator[Vocab]:
    with open_model(smollm2, vocab_only=True) as model:
        yield Vocab(model)


@pytest.mark.parametrize("name", SCHEMAS)
def test_llama_cpp_takes_every_grammar(name: str, vocab: Vocab) -> None:
    sampler = lib.llama().llama_sampler_init_grammar(vocab.native, as_grammar(SCHEMAS[name]).encode(), b"root")
    assert sampler
    lib.llama().llama_sampler_free(sampler)
