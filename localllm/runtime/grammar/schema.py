"""JSON schemas as GBNF: every text that follows the grammar is JSON that the schema accepts.

Not every text that a schema accepts can be written: properties come in the order of the schema, and those that it does
not name only where it asks for them. What cannot be expressed is an error, never ignored.

Source of the language: JSON Schema 2020-12, with `definitions`, `items` as a list and boolean bounds of older drafts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from localllm.errors import BadGrammar
from localllm.runtime.grammar import gbnf
from localllm.runtime.grammar.keywords import wrong
from localllm.runtime.grammar.merging import ASSERTIONS, Conflict, merged
from localllm.runtime.grammar.overlap import TYPES, disjoint, is_of, same
from localllm.runtime.grammar.rules import Rules, either, one_of
from localllm.runtime.grammar.values import Values, as_json, refused

# What says something about the values that no grammar can check.
# fmt: off
_INEXPRESSIBLE = (
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties",
    "contains", "minContains", "maxContains", "unevaluatedItems", "$dynamicRef", "$recursiveRef",
)
# fmt: on

_OF_TYPE = {
    "object": ["properties", "required", "additionalProperties", "minProperties", "maxProperties", "propertyNames"],
    "array": ["items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"],
    "string": ["minLength", "maxLength", "pattern", "format"],
    "number": ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
}


def as_grammar(schema: Any) -> str:
    """The GBNF for what `schema` accepts.

    Raises:
        BadGrammar: the schema is none, accepts nothing, or says what cannot be expressed; the message says where.
    """
    compiler = _Compiler(schema)
    root = compiler.rules.reserve("root")
    compiler.rules.define(root, compiler.value(schema, "#"))
    text = compiler.rules.text()
    try:
        gbnf.check(text)
    except BadGrammar as error:
        raise BadGrammar(
            f"The schema cannot be followed: as a grammar it says: {error.message}",
            hint="A part of it may have no end, because it must always hold itself.",
        ) from None
    return text


class _Compiler:
    """Compiles parts of one schema. A part is named by its place as a JSON pointer, such as `#/properties/age`."""

    def __init__(self, root: Any) -> None:
        self.rules = Rules()
        self._root = root
        self._targets: dict[str, str] = {}
        self._values = Values(self.rules, self.value, self._merged)

    def value(self, schema: Any, place: str) -> str:
        """An expression for the values that `schema` accepts."""
        if schema is True or schema == {}:
            return self._values.anything()
        if schema is False:
            raise refused(place, "false accepts nothing")
        if not isinstance(schema, Mapping):
            raise refused(place, f"a schema is an object or a boolean, not {json.dumps(schema, default=str)[:40]}")
        asserted = {key: said for key, said in schema.items() if key in ASSERTIONS}
        for key, said in asserted.items():
            if wanted := wrong(key, said):
                raise refused(place, f'"{key}" is {wanted}, not {json.dumps(said)[:40]}')
        for key in _INEXPRESSIBLE:
            if key in schema:
                raise refused(place, f'"{key}" cannot be expressed')
        if set(asserted) == {"$ref"}:
            return self._reference(asserted["$ref"], place)
        if "allOf" in asserted or "$ref" in asserted:
            return self.value(self._merged([asserted], place), place)
        for key in ("anyOf", "oneOf"):
            if key in asserted:
                return self._one_of(key, asserted, place)
        if "enum" in asserted or "const" in asserted:
            return self._listed(asserted, place)
        return self._by_type(asserted, place)

    def _by_type(self, schema: Mapping[str, Any], place: str) -> str:
        given = schema.get("type", self._implied(schema))
        types = [given] if isinstance(given, str) else list(given)
        for name in types:
            if name not in TYPES:
                raise refused(place, f"there is no type {name!r}")
        if "number" in types and "integer" in types:
            types.remove("integer")
        found = either([self._values.of_type(name, schema, place) for name in types])
        if found is None:
            raise refused(place, "it accepts nothing")
        return found

    def _implied(self, schema: Mapping[str, Any]) -> list[str]:
        """The type whose keywords are there; any value would do for others, but nobody means that."""
        implied = [name for name, keys in _OF_TYPE.items() if any(key in schema for key in keys)]
        return implied or list(TYPES)

    def _reference(self, reference: Any, place: str) -> str:
        if reference not in self._targets:
            target = self._resolved(reference, place)
            name = self._targets[reference] = self.rules.reserve(str(reference).rsplit("/", 1)[-1])
            self.rules.define(name, self.value(target, reference))
        return self._targets[reference]

    def _resolved(self, reference: Any, place: str) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise refused(place, f"the reference {reference!r} is not to a place in the schema such as #/$defs/name")
        target = self._root
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise refused(place, f"the reference {reference!r} leads nowhere") from None
        return target

    def _merged(self, schemas: Iterable[Mapping[str, Any]], place: str) -> Any:
        try:
            return merged(schemas, lambda reference: self._resolved(reference, place))
        except Conflict as conflict:
            raise refused(place, str(conflict)) from None

    def _one_of(self, key: str, schema: Mapping[str, Any], place: str) -> str:
        rest = {other: said for other, said in schema.items() if other != key}
        choices = schema[key]
        parts = [self._merged([rest, choice], place) if rest else choice for choice in choices]
        if key == "oneOf":
            self._refuse_overlap(parts, place)
        found = either(self.value(part, f"{place}/{key}/{index}") for index, part in enumerate(parts))
        return found or ""

    def _refuse_overlap(self, parts: list[Any], place: str) -> None:
        """A grammar can write what one of several accepts, but not see to it that no other accepts it too."""
        plain = [self._merged([part], place) if isinstance(part, Mapping) else part for part in parts]
        for index, one in enumerate(plain):
            for other in plain[index + 1 :]:
                if not disjoint(one, other):
                    raise refused(
                        place, '"oneOf" has choices that may accept the same value; "anyOf" says that they may'
                    )

    def _listed(self, schema: Mapping[str, Any], place: str) -> str:
        values = schema.get("enum", [schema.get("const")])
        if "const" in schema:
            values = [value for value in values if same(value, schema["const"])]
        if "type" in schema:
            types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
            values = [value for value in values if any(is_of(value, name) for name in types)]
        beside = sorted(set(schema) - {"enum", "const", "type"})
        if beside:
            raise refused(place, f'"{beside[0]}" beside "enum" or "const" cannot be expressed')
        if not values:
            raise refused(place, "none of the listed values is accepted")
        return one_of((as_json(value) for value in values), self.rules)
