"""Whether two JSON schemas can accept the same value, as far as types and listed values tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
"""The types of JSON schemas."""


def disjoint(one: Any, other: Any) -> bool:
    """Whether no value is accepted by both, as far as types, listed values and required properties tell."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return one is False or other is False
    mine, theirs = _values(one), _values(other)
    if mine is not None and theirs is not None:
        return not any(same(a, b) for a in mine for b in theirs)
    if not _types(one) & _types(other):
        return True
    shared = set(one.get("required", ())) & set(other.get("required", ()))
    return any(
        disjoint(one.get("properties", {}).get(key, True), other.get("properties", {}).get(key, True)) for key in shared
    )


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _types(schema: Mapping[str, Any]) -> set[str]:
    """The types that a schema allows; a number may be an integer."""
    given = schema.get("type", TYPES)
    values = _values(schema)
    if values is not None and "type" not in schema:
        given = [name for name in TYPES if any(is_of(value, name) for value in values)]
    types = {given} if isinstance(given, str) else set(given)
    return types | {"integer"} if "number" in types else types


def is_of(value: Any, name: str) -> bool:
    """Whether a value is of the type `name`."""
    if isinstance(value, bool):
        return name == "boolean"
    if isinstance(value, int | float):
        return name == "number" or (name == "integer" and value == int(value))
    kinds: dict[str, type] = {"object": dict, "array": list, "string": str, "null": type(None)}
    return name in kinds and isinstance(value, kinds[name])


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to JSON, where true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
