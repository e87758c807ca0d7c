"""The values of each JSON type as GBNF: objects, arrays, strings and numbers within the bounds of a schema.

Knows no references and no combinations of schemas: parts of a schema are compiled by whoever owns it.

Source of the language: JSON Schema 2020-12, with `items` as a list and boolean bounds of older drafts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from localllm.errors import BadGrammar
from localllm.runtime.grammar import gbnf
from localllm.runtime.grammar.chars import UNESCAPED, as_class
from localllm.runtime.grammar.formats import FORMATS
from localllm.runtime.grammar.numbers import Bounds, decimals, integers
from localllm.runtime.grammar.objects import Extra, members, other_than
from localllm.runtime.grammar.pattern import Unsupported, in_string
from localllm.runtime.grammar.rules import Rules, literal, maybe, then, times

MAX_REPETITIONS = gbnf.MAX_REPETITIONS

_SPACE = '(" " | "\\n" [ ]{0,20})?'
_CHARACTER = (
    as_class(UNESCAPED) or ""
) + r""" | "\\" (["\\/bfnrt] | "u" ([0-9a-cA-Ce-fE-F] [0-9a-fA-F] | [dD] [0-7]) [0-9a-fA-F]{2})"""


class Values:
    """Expressions for values, as rules of one grammar.

    `value` compiles a part of the schema at its place; `merge` makes one schema of several that must hold together.
    """

    def __init__(
        self,
        rules: Rules,
        value: Callable[[Any, str], str],
        merge: Callable[[Iterable[Mapping[str, Any]], str], Any],
    ) -> None:
        self._rules, self._value, self._merge = rules, value, merge
        self._any = ""

    def anything(self) -> str:
        """An expression for any value."""
        if not self._any:
            name = self._any = self._rules.reserve("value")
            simple = [self.of_type(kind, {}, "#") for kind in ("string", "number", "boolean", "null")]
            self._rules.define(name, " | ".join([self._open_object(name), self._list(name, 0, None), *simple]))
        return self._any

    def of_type(self, name: str, schema: Mapping[str, Any], place: str) -> str:
        """An expression for the values of the type `name` that `schema` accepts."""
        if name == "boolean":
            return '("true" | "false")'
        if name == "null":
            return '"null"'
        if name in ("number", "integer"):
            return self._number(schema, place, whole=name == "integer")
        makers = {"object": self._object, "array": self._array, "string": self._string}
        return makers[name](schema, place)

    def _open_object(self, value: str) -> str:
        pair = self._rules.add("pair", f"{self._text()} {self._colon()} {value}")
        return self._braces(maybe(then(pair, f"({self._comma()} {pair})*")))

    def _space(self) -> str:
        return self._rules.add("space", _SPACE)

    def _comma(self) -> str:
        return self._rules.add("comma", f'"," {self._space()}')

    def _colon(self) -> str:
        return self._rules.add("colon", f'":" {self._space()}')

    def _braces(self, inner: str) -> str:
        space = self._space()
        return f'"{{" {space} {inner} {space} "}}"' if inner else f'"{{" {space} "}}"'

    def _text(self) -> str:
        return self._rules.add("string", f'"\\"" {self._rules.add("char", _CHARACTER)}* "\\""')

    def _object(self, schema: Mapping[str, Any], place: str) -> str:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        extra = schema.get("additionalProperties", not properties and not required)
        missing = [key for key in required if key not in properties]
        if missing and extra is False and "additionalProperties" in schema:
            raise refused(place, f'the required property "{missing[0]}" is not allowed')
        known = {**properties, **dict.fromkeys(missing, True if isinstance(extra, bool) else extra)}
        self._check_counts(schema, known, required, place, closed=extra is False)
        parts = []
        for key, said in known.items():
            where = f"{place}/properties/{key}"
            if said is False and key not in required:
                continue
            body = f"{literal(as_json(key))} {self._colon()} {self._value(said, where)}"
            parts.append((self._rules.add(f"{key}-pair", body), key in required))
        extras = None
        if extra is not False:
            most = schema.get("maxProperties")
            extras = Extra(
                self._extra_pair(schema, known, extra, place),
                max(0, schema.get("minProperties", 0) - len(required)),
                None if most is None else max(0, most - len(known)),
            )
        return self._braces(members(self._rules, self._comma(), parts, extras))

    def _check_counts(
        self, schema: Mapping[str, Any], known: Mapping[str, Any], required: list[str], place: str, *, closed: bool
    ) -> None:
        least, most = schema.get("minProperties", 0), schema.get("maxProperties")
        optional = len(known) - len(required)
        if least > len(required) and (optional or least > len(required) + 1):
            raise refused(place, '"minProperties" above the number of required properties cannot be expressed')
        if most is not None and most < len(known) and (optional or most < len(required)):
            raise refused(place, '"maxProperties" below the number of properties cannot be expressed')
        if closed and least > len(known):
            raise refused(place, '"minProperties" is above the number of properties')

    def _extra_pair(self, schema: Mapping[str, Any], known: Mapping[str, Any], said: Any, place: str) -> str:
        names = schema.get("propertyNames", True)
        if names is True or names == {}:
            key = self._text() if not known else f'"\\"" {other_than(list(known), self._rules)} "\\""'
        elif known:
            raise refused(place, '"propertyNames" beside "properties" cannot be expressed')
        else:
            key = self._value(self._merge([{"type": "string"}, names], place), f"{place}/propertyNames")
        value = self._value(said, f"{place}/additionalProperties")
        return self._rules.add("extra-pair", f"{key} {self._colon()} {value}")

    def _array(self, schema: Mapping[str, Any], place: str) -> str:
        if schema.get("uniqueItems") and schema.get("maxItems", 2) > 1:
            raise refused(place, '"uniqueItems" cannot be expressed')
        items = schema.get("items", True)
        first = schema.get("prefixItems", [])
        if isinstance(items, list):
            first, items = items, schema.get("additionalItems", True)
        low, high = schema.get("minItems", 0), schema.get("maxItems")
        if high is not None and high < low:
            raise refused(place, f'"minItems" {low} is above "maxItems" {high}')
        _limit(place, low, high)
        if not first:
            if items is False or high == 0:
                return self._list("", 0, 0) if low == 0 else _nothing(place)
            item = self._rules.add("item", self._value(items, f"{place}/items"))
            return self._list(item, low, high)
        return self._tuple(first, items, low, high, place)

    def _list(self, item: str, low: int, high: int | None) -> str:
        space = self._space()
        if high == 0:
            return f'"[" {space} "]"'
        more = self._rules.add("more", f"{self._comma()} {item}")
        inner = f"{item} {times(more, max(0, low - 1), None if high is None else high - 1)}" if high != 1 else item
        return f'"[" {space} {inner if low else maybe(inner)} {space} "]"'

    def _tuple(self, first: list[Any], items: Any, low: int, high: int | None, place: str) -> str:
        """The `first` items, each with a schema of its own, and then `items`."""
        if high is not None:
            first = first[:high]
        parts = [self._value(said, f"{place}/prefixItems/{index}") for index, said in enumerate(first)]
        inner = ""
        if items is not False and (high is None or high > len(parts)):
            item = self._rules.add("item", self._value(items, f"{place}/items"))
            more = self._rules.add("more", f"{self._comma()} {item}")
            most = None if high is None else high - len(parts)
            inner = times(more, max(0, low - len(parts)), most)
        elif low > len(parts):
            raise refused(place, f'"minItems" {low} is above the number of items that are allowed')
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
            raise refused(place, f'"{said[0]}" beside other bounds of a string cannot be expressed')
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise refused(
                    place, f"the format {schema['format']!r} cannot be expressed; there are {', '.join(FORMATS)}"
                )
            return self._rules.add(schema["format"], f'"\\"" {FORMATS[schema["format"]]} "\\""')
        if "pattern" in schema:
            try:
                return f'"\\"" {in_string(str(schema["pattern"]), self._rules)} "\\""'
            except Unsupported as error:
                raise refused(place, f"the pattern {schema['pattern']!r} cannot be expressed: {error}") from None
        if high is not None and high < low:
            raise refused(place, f'"minLength" {low} is above "maxLength" {high}')
        _limit(place, low, high)
        if not bounded:
            return self._text()
        return f'"\\"" {times(self._rules.add("char", _CHARACTER), low, high) if high != 0 else ""} "\\""'

    def _number(self, schema: Mapping[str, Any], place: str, *, whole: bool) -> str:
        step = schema.get("multipleOf", 1)
        if step != 1:
            raise refused(place, f'"multipleOf" {step} cannot be expressed')
        bounds = _bounds(schema)
        whole = whole or "multipleOf" in schema
        found = integers(bounds) if whole else decimals(bounds)
        if found is None:
            raise refused(place, "there is no number within the bounds")
        return self._rules.add("integer" if whole else "number", found)


def refused(place: str, what: str) -> BadGrammar:
    """The error that a schema cannot be followed at a place."""
    return BadGrammar(
        f"The schema cannot be followed at {place}: {what}.",
        hint="Say less in the schema there, and check the rest of it in the answer.",
    )


def _nothing(place: str) -> str:
    raise refused(place, "it accepts nothing")


def _limit(place: str, low: int, high: int | None) -> None:
    if max(low, high or 0) > MAX_REPETITIONS:
        raise refused(place, f"more than {MAX_REPETITIONS:,} repetitions cannot be expressed")


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


def as_json(value: Any) -> str:
    """How a value is written."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isascii() or not any("\ud800" <= mark <= "\udfff" for mark in text) else json.dumps(value)
