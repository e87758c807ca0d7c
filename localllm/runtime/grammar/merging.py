"""Several JSON schemas that all have to accept a value (`allOf`, `$ref` with company) as one schema."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Resolve = Callable[[Any], Any]

# fmt: off
ASSERTIONS = frozenset((
    "type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "properties", "required",
    "additionalProperties", "minProperties", "maxProperties", "propertyNames", "items", "prefixItems",
    "additionalItems", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
))
# fmt: on
"""The keywords that say something about values and that a grammar can express, most of them."""

_LARGEST = frozenset(["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"])
_SMALLEST = frozenset(["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"])


class Conflict(Exception):
    """Two schemas that no value, or no single schema, can satisfy; its text says why."""


def merged(schemas: Iterable[Any], resolve: Resolve) -> Any:
    """One schema for what all of `schemas` accept; `resolve` gives the schema that a reference means.

    Raises:
        Conflict: they contradict each other, or what they say together has no single schema.
    """
    whole: dict[str, Any] = {}
    for schema in _flat(schemas, resolve, ()):
        if schema is False:
            raise Conflict("false accepts nothing")
        if schema is not True:
            whole = _both(whole, schema)
    return whole


def _flat(schemas: Iterable[Any], resolve: Resolve, on_the_way: tuple[str, ...]) -> Iterable[Any]:
    """The schemas without references and `allOf`, which are what they refer to."""
    for schema in schemas:
        if not isinstance(schema, Mapping):
            yield schema
            continue
        reference = schema.get("$ref")
        if reference is not None:
            if reference in on_the_way:
                raise Conflict(f"the reference {reference!r} leads back to itself")
            yield from _flat([resolve(reference)], resolve, (*on_the_way, reference))
        yield from _flat(schema.get("allOf", ()), resolve, on_the_way)
        yield {key: said for key, said in schema.items() if key in ASSERTIONS - {"$ref", "allOf"}}


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    one, other = _closed(one, other), _closed(other, one)
    whole = {**one, **other}
    for key in one.keys() & other.keys():
        whole[key] = _said_twice(key, one[key], other[key])
    return whole


def _closed(schema: Mapping[str, Any], by: Mapping[str, Any]) -> Mapping[str, Any]:
    """`schema` without the properties that `by` does not allow."""
    extra = by.get("additionalProperties", True)
    mine, theirs = schema.get("properties", {}), by.get("properties", {})
    foreign = [key for key in mine if key not in theirs]
    if extra is True or not foreign:
        return schema
    if extra is not False:
        raise Conflict('"additionalProperties" beside other properties cannot be expressed')
    lost = set(foreign) & set(schema.get("required", ()))
    if lost:
        raise Conflict(f'the required property "{min(lost)}" is not allowed')
    return {**schema, "properties": {key: said for key, said in mine.items() if key in theirs}}


def _said_twice(key: str, one: Any, other: Any) -> Any:
    if one == other and type(one) is type(other):
        return one
    if key in _LARGEST:
        return max(one, other)
    if key in _SMALLEST:
        return min(one, other)
    if key == "type":
        return _common_types(one, other)
    if key == "enum":
        return [value for value in one if value in other]
    if key == "required":
        return list(dict.fromkeys([*one, *other]))
    if key == "properties":
        return {
            name: {"allOf": [one[name], other[name]]} if name in one and name in other else {**one, **other}[name]
            for name in {**one, **other}
        }
    if key in ("items", "additionalProperties", "propertyNames") and not isinstance(one, list):
        return False if one is False or other is False else {"allOf": [one, other]}
    if key == "uniqueItems":
        return one or other
    if key in ("anyOf", "oneOf"):
        return [{"allOf": [mine, theirs]} for mine in one for theirs in other]
    raise Conflict(f'"{key}" is said twice, and both cannot be expressed')


def _common_types(one: Any, other: Any) -> list[str]:
    mine, theirs = ([said] if isinstance(said, str) else list(said) for said in (one, other))
    common = [name for name in mine if name in theirs or (name == "integer" and "number" in theirs)]
    common += [name for name in theirs if name == "integer" and "number" in mine and name not in common]
    if not common:
        raise Conflict(f"no value is of the types {', '.join(mine)} and {', '.join(theirs)}")
    return common
