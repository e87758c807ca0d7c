"""What the keywords of a JSON schema may hold, so that a wrong one is told by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

_Test = Callable[[Any], bool]


def wrong(key: str, said: Any) -> str | None:
    """What the keyword `key` should hold, if it is not `said`."""
    if key not in _KINDS:
        return None
    what, test = _KINDS[key]
    return None if test(said) else what


def _is_count(said: Any) -> bool:
    return isinstance(said, int) and not isinstance(said, bool) and said >= 0


def _is_number(said: Any) -> bool:
    return isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said)


def _is_schema(said: Any) -> bool:
    return isinstance(said, Mapping | bool)


def _list_of(test: _Test, said: Any) -> bool:
    return isinstance(said, list) and len(said) > 0 and all(map(test, said))


def _is_text(said: Any) -> bool:
    return isinstance(said, str)


_KINDS: dict[str, tuple[str, _Test]] = {
    "type": ("the name of a type or a list of some", lambda said: _is_text(said) or _list_of(_is_text, said)),
    "enum": ("a list of values", lambda said: isinstance(said, list) and bool(said)),
    "required": ("a list of names", lambda said: said == [] or _list_of(_is_text, said)),
    "properties": (
        "an object of schemas",
        lambda said: isinstance(said, Mapping) and all(map(_is_schema, said.values())),
    ),
    "items": ("a schema", lambda said: _is_schema(said) or _list_of(_is_schema, said)),
    "exclusiveMinimum": ("a number", lambda said: _is_number(said) or isinstance(said, bool)),
    "exclusiveMaximum": ("a number", lambda said: _is_number(said) or isinstance(said, bool)),
    "multipleOf": ("a number above 0", lambda said: _is_number(said) and said > 0),
    **dict.fromkeys(
        ("anyOf", "oneOf", "allOf", "prefixItems"), ("a list of schemas", lambda said: _list_of(_is_schema, said))
    ),
    **dict.fromkeys(("additionalProperties", "additionalItems", "propertyNames"), ("a schema", _is_schema)),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), ("a count", _is_count)),
    **dict.fromkeys(("minProperties", "maxProperties"), ("a count", _is_count)),
    **dict.fromkeys(("minimum", "maximum"), ("a number", _is_number)),
    **dict.fromkeys(("pattern", "format", "$ref"), ("a text", _is_text)),
    "uniqueItems": ("true or false", lambda said: isinstance(said, bool)),
}
