"""JSON schemas as GBNF: every text that follows the grammar is JSON that the schema accepts.

Not every text that a schema accepts can be written: properties come in the order of the schema, and those that it does
not name only where it asks for them. What cannot be expressed is an error, never ignored.

Source of the language: JSON Schema 2020-12, with `definitions`, `items` as a list and boolean bounds of older drafts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from localllm.errors import BadGrammar
from localllm.runtime.grammar import gbnf
from localllm.runtime.grammar.chars import UNESCAPED, as_class
from localllm.runtime.grammar.formats import FORMATS
from localllm.runtime.grammar.keywords import wrong
from localllm.runtime.grammar.merging import ASSERTIONS, Conflict, merged
from localllm.runtime.grammar.numbers import Bounds, decimals, integers
from localllm.runtime.grammar.objects import Extra, members, other_than
from localllm.runtime.grammar.overlap import TYPES, disjoint, is_of, same
from localllm.runtime.grammar.pattern import Unsupported, in_string
from localllm.runtime.grammar.rules import Rules, either, literal, maybe, one_of, then, times

MAX_REPETITIONS = gbnf.MAX_REPETITIONS

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

_SPACE = '(" " | "\\n" [ ]{0,20})?'
_CHARACTER = (
    as_class(UNESCAPED) or ""
) + r""" | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-Ce-fE-F] [0-9a-fA-F] | [dD] [0-7]) [0-9a-fA-F]{2})"""


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

    def value(self, schema: Any, place: str) -> str:
        """An expression for the values that `schema` accepts."""
        if schema is True or schema == {}:
            return self._anything()
        if schema is False:
            raise self._no(place, "false accepts nothing")
        if not isinstance(schema, Mapping):
            raise self._no(place, f"a schema is an object or a boolean, not {json.dumps(schema, default=str)[:40]}")
        asserted = {key: said for key, said in schema.items() if key in ASSERTIONS}
        for key, said in asserted.items():
            if wanted := wrong(key, said):
                raise self._no(place, f'"{key}" is {wanted}, not {json.dumps(said)[:40]}')
        for key in _INEXPRESSIBLE:
            if key in schema:
                raise self._no(place, f'"{key}" cannot be expressed')
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
                raise self._no(place, f"there is no type {name!r}")
        if "number" in types and "integer" in types:
            types.remove("integer")
        makers = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "number": self._number,
            "integer": self._number,
        }
        constants = {"boolean": '("true" | "false")', "null": '"null"'}
        choices = [
            makers[name]({**schema, "type": name}, place) if name in makers else constants[name] for name in types
        ]
        found = either(choices)
        if found is None:
            raise self._no(place, "it accepts nothing")
        return found

    def _implied(self, schema: Mapping[str, Any]) -> list[str]:
        """The type whose keywords are there; any value would do for others, but nobody means that."""
        implied = [name for name, keys in _OF_TYPE.items() if any(key in schema for key in keys)]
        return implied or list(TYPES)

    def _anything(self) -> str:
        if "" not in self._targets:
            name = self._targets[""] = self.rules.reserve("value")
            values = ["string", "number", "boolean", "null"]
            simple = [self._by_type({"type": kind}, "#") for kind in values]
            self.rules.define(name, " | ".join([self._open_object(name), self._list(name, 0, None), *simple]))
        return self._targets[""]

    def _open_object(self, value: str) -> str:
        pair = self.rules.add("pair", f"{self._text()} {self._colon()} {value}")
        return self._braces(maybe(then(pair, f"({self._comma()} {pair})*")))

    def _space(self) -> str:
        return self.rules.add("space", _SPACE)

    def _comma(self) -> str:
        return self.rules.add("comma", f'"," {self._space()}')

    def _colon(self) -> str:
        return self.rules.add("colon", f'":" {self._space()}')

    def _braces(self, inner: str) -> str:
        space = self._space()
        return f'"{{" {space} {inner} {space} "}}"' if inner else f'"{{" {space} "}}"'

    def _text(self) -> str:
        return self.rules.add("string", f'"\\"" {self.rules.add("char", _CHARACTER)}* "\\""')

    # References and combinations.

    def _reference(self, reference: Any, place: str) -> str:
        if reference not in self._targets:
            target = self._resolved(reference, place)
            name = self._targets[reference] = self.rules.reserve(str(reference).rsplit("/", 1)[-1])
            self.rules.define(name, self.value(target, reference))
        return self._targets[reference]

    def _resolved(self, reference: Any, place: str) -> Any:
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise self._no(place, f"the reference {reference!r} is not to a place in the schema such as #/$defs/name")
        target = self._root
        for part in reference.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                target = target[int(key)] if isinstance(target, list) else target[key]
            except (KeyError, IndexError, ValueError, TypeError):
                raise self._no(place, f"the reference {reference!r} leads nowhere") from None
        return target

    def _merged(self, schemas: Iterable[Mapping[str, Any]], place: str) -> Any:
        try:
            return merged(schemas, lambda reference: self._resolved(reference, place))
        except Conflict as conflict:
            raise self._no(place, str(conflict)) from None

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
                    raise self._no(
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
            raise self._no(place, f'"{beside[0]}" beside "enum" or "const" cannot be expressed')
        if not values:
            raise self._no(place, "none of the listed values is accepted")
        return one_of((_as_json(value) for value in values), self.rules)

    # One method for each type.

    def _object(self, schema: Mapping[str, Any], place: str) -> str:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        extra = schema.get("additionalProperties", not properties and not required)
        missing = [key for key in required if key not in properties]
        if missing and extra is False and "additionalProperties" in schema:
            raise self._no(place, f'the required property "{missing[0]}" is not allowed')
        known = {**properties, **dict.fromkeys(missing, True if isinstance(extra, bool) else extra)}
        self._check_counts(schema, known, required, place, closed=extra is False)
        parts = []
        for key, said in known.items():
            where = f"{place}/properties/{key}"
            if said is False and key not in required:
                continue
            body = f"{literal(_as_json(key))} {self._colon()} {self.value(said, where)}"
            parts.append((self.rules.add(f"{key}-pair", body), key in required))
        extras = None
        if extra is not False:
            most = schema.get("maxProperties")
            extras = Extra(
                self._extra_pair(schema, known, extra, place),
                max(0, schema.get("minProperties", 0) - len(required)),
                None if most is None else max(0, most - len(known)),
            )
        return self._braces(members(self.rules, self._comma(), parts, extras))

    def _check_counts(
        self, schema: Mapping[str, Any], known: Mapping[str, Any], required: list[str], place: str, *, closed: bool
    ) -> None:
        least, most = schema.get("minProperties", 0), schema.get("maxProperties")
        optional = len(known) - len(required)
        if least > len(required) and (optional or least > len(required) + 1):
            raise self._no(place, '"minProperties" above the number of required properties cannot be expressed')
        if most is not None and most < len(known) and (optional or most < len(required)):
            raise self._no(place, '"maxProperties" below the number of properties cannot be expressed')
        if closed and least > len(known):
            raise self._no(place, '"minProperties" is above the number of properties')

    def _extra_pair(self, schema: Mapping[str, Any], known: Mapping[str, Any], said: Any, place: str) -> str:
        names = schema.get("propertyNames", True)
        if names is True or names == {}:
            key = self._text() if not known else f'"\\"" {other_than(list(known), self.rules)} "\\""'
        elif known:
            raise self._no(place, '"propertyNames" beside "properties" cannot be expressed')
        else:
            key = self.value(self._merged([{"type": "string"}, names], place), f"{place}/propertyNames")
        value = self.value(said, f"{place}/additionalProperties")
        return self.rules.add("extra-pair", f"{key} {self._colon()} {value}")

    def _array(self, schema: Mapping[str, Any], place: str) -> str:
        if schema.get("uniqueItems") and schema.get("maxItems", 2) > 1:
            raise self._no(place, '"uniqueItems" cannot be expressed')
        items = schema.get("items", True)
        first = schema.get("prefixItems", [])
        if isinstance(items, list):
            first, items = items, schema.get("additionalItems", True)
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        if high is not None and high < low:
            raise self._no(place, f'"minItems" {low} is above "maxItems" {high}')
        self._limit(place, low, high)
        if not first:
            if items is False or high == 0:
                return self._list("", 0, 0) if low == 0 else self._nothing(place)
            item = self.rules.add("item", self.value(items, f"{place}/items"))
            return self._list(item, low, high)
        return self._tuple(first, items, low, high, place)

    def _nothing(self, place: str) -> str:
        raise self._no(place, "it accepts nothing")

    def _limit(self, place: str, low: int, high: int | None) -> None:
        if max(low, high or 0) > MAX_REPETITIONS:
            raise self._no(place, f"more than {MAX_REPETITIONS:,} repetitions cannot be expressed")

    def _list(self, item: str, low: int, high: int | None) -> str:
        space = self._space()
        if high == 0:
            return f'"[" {space} "]"'
        more = self.rules.add("more", f"{self._comma()} {item}")
        inner = f"{item} {times(more, max(0, low - 1), None if high is None else high - 1)}" if high != 1 else item
        return f'"[" {space} {inner if low else maybe(inner)} {space} "]"'

    def _tuple(self, first: list[Any], items: Any, low: int, high: int | None, place: str) -> str:
        """The `first` items, each with a schema of its own, and then `items`."""
        if high is not None:
            first = first[:high]
        parts = [self.value(said, f"{place}/prefixItems/{index}") for index, said in enumerate(first)]
        inner = ""
        if items is not False and (high is None or high > len(parts)):
            item = self.rules.add("item", self.value(items, f"{place}/items"))
            more = self.rules.add("more", f"{self._comma()} {item}")
            most = None if high is None else high - len(parts)
            inner = times(more, max(0, low - len(parts)), most)
        elif low > len(parts):
            raise self._no(place, f'"minItems" {low} is above the number of items that are allowed')
        for index in range(len(parts) - 1, -1, -1):
            before = f"{self._comma()} " if index else ""
            inner = f"{before}{parts[index]} {inner}".rstrip()
            inner = inner if index < low else maybe(inner)
        return f'"[" {self._space()} {inner} {self._space()} "]"'

    def _string(self, schema: Mapping[str, Any], place: str) -> str:
        low, high = schema.get("minLength", 0), schema.get("maxLength")
        bounded = low > 0 or high is not None
        said = [key for key, there in (("pattern", "pattern" in schema), ("format", "format" in schema)) if there]
        if len(said) + bounded > 1:
            raise self._no(place, f'"{said[0]}" beside other bounds of a string cannot be expressed')
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise self._no(
                    place, f"the format {schema['format']!r} cannot be expressed; there are {', '.join(FORMATS)}"
                )
            return self.rules.add(schema["format"], f'"\\"" {FORMATS[schema["format"]]} "\\""')
        if "pattern" in schema:
            try:
                return f'"\\"" {in_string(str(schema["pattern"]), self.rules)} "\\""'
            except Unsupported as error:
                raise self._no(place, f"the pattern {schema['pattern']!r} cannot be expressed: {error}") from None
        if high is not None and high < low:
            raise self._no(place, f'"minLength" {low} is above "maxLength" {high}')
        self._limit(place, low, high)
        if not bounded:
            return self._text()
        return f'"\\"" {times(self.rules.add("char", _CHARACTER), low, high) if high != 0 else ""} "\\""'

    def _number(self, schema: Mapping[str, Any], place: str) -> str:
        step = schema.get("multipleOf", 1)
        if step != 1:
            raise self._no(place, f'"multipleOf" {step} cannot be expressed')
        bounds = _bounds(schema)
        whole = schema["type"] == "integer" or "multipleOf" in schema
        found = integers(bounds) if whole else decimals(bounds)
        if found is None:
            raise self._no(place, "there is no number within the bounds")
        return self.rules.add("integer" if whole else "number", found)

    def _no(self, place: str, what: str) -> BadGrammar:
        return BadGrammar(
            f"The schema cannot be followed at {place}: {what}.",
            hint="Say less in the schema there, and check the rest of it in the answer.",
        )


def _bounds(schema: Mapping[str, Any]) -> Bounds:
    found: dict[str, tuple[Decimal | None, bool]] = {}
    for side, other in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        limit, beyond = schema.get(side), schema.get(other)
        value = None if limit is None else Decimal(str(limit))
        is_open = beyond is True and value is not None  # as in draft 4
        if beyond is not None and not isinstance(beyond, bool):
            strict = Decimal(str(beyond))
            if value is None or (strict >= value if side == "minimum" else strict <= value):
                value, is_open = strict, True
        found[side] = value, is_open
    return Bounds(found["minimum"][0], found["maximum"][0], found["minimum"][1], found["maximum"][1])


def _as_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in text) else json.dumps(value)
