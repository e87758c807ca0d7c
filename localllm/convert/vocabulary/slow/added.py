"""The added tokens of a checkpoint, from all the files that name some, as `added_tokens` of tokenizer.json.

`added_tokens_decoder` of tokenizer_config.json gives ids to tokens, so does the older added_tokens.json; the settings
name special ones among these and those of the vocabulary. A named token without an id gets the next one, as in
transformers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from localllm.convert.vocabulary.base import ROLES, text_of
from localllm.errors import BadCheckpoint

NAMED = tuple(f"{role}_token" for role in (*ROLES, "cls"))
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
HIGHEST = 1 << 24
"""Ids beyond this are no ids: no vocabulary has so many tokens."""


def added_tokens(
    title: str, settings: Mapping[str, Any], listed: Any, ids: Mapping[str, int], defaults: Mapping[str, str]
) -> list[dict[str, Any]]:
    """All added tokens by id.

    `listed` is the content of added_tokens.json, `ids` are those of the vocabulary, `defaults` the special tokens of
    the class by role, which count where they are in the vocabulary.

    Raises:
        BadCheckpoint: an entry has no text or no id.
    """
    special = dict(_named(settings))
    found: dict[int, dict[str, Any]] = {}
    for text, value in _object(title, "added_tokens.json", listed).items():
        found[_id(title, "added_tokens.json", value)] = _token(text, special.get(text), special=text in special)
    decoder = _object(title, "added_tokens_decoder", settings.get("added_tokens_decoder"))
    for key, value in decoder.items():
        content = text_of(value)
        if content is None:
            raise BadCheckpoint(f"{title}: the token {key} of added_tokens_decoder has no text: {value!r}.")
        stated = bool(value.get("special")) if isinstance(value, Mapping) else False
        found[_id(title, "added_tokens_decoder", key)] = _token(content, value, special=stated or content in special)
    known = {**ids, **{token["content"]: number for number, token in found.items()}}
    for role, text in defaults.items():
        if text in known and f"{role}_token" not in settings:
            special.setdefault(text, None)
    following = max([*known.values(), -1]) + 1
    for text, value in special.items():
        number = known.get(text, following)
        following += number == following
        found.setdefault(number, _token(text, value, special=True))
    return [{"id": number, **found[number]} for number in sorted(found)]


def within(added: Sequence[Mapping[str, Any]], rows: int) -> tuple[list[Mapping[str, Any]], tuple[str, ...]]:
    """The added tokens that are rows of the embedding, and what to tell of the others: no model can be fed these."""
    beyond = [token for token in added if int(token["id"]) >= rows]
    if not beyond:
        return list(added), ()
    names = ", ".join(str(token["content"]) for token in beyond[:5]) + (" …" if len(beyond) > 5 else "")
    note = f"{len(beyond)} tokens behind the last of the {rows} rows of the embedding are left out: {names}"
    return [token for token in added if int(token["id"]) < rows], (note,)


def with_added(ids: Mapping[str, int], added: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The vocabulary with the added tokens in it, each at its own id, whatever had that id or that text before."""
    numbers, texts = {token["id"] for token in added}, {token["content"] for token in added}
    kept = {text: number for text, number in ids.items() if number not in numbers and text not in texts}
    return {**kept, **{token["content"]: token["id"] for token in added}}


def _named(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The special tokens that the settings name, each with what else they say of it."""
    values = [settings.get(name) for name in NAMED]
    for name in _LISTS:
        listed = settings.get(name) or ()
        values += listed.values() if isinstance(listed, Mapping) else listed if isinstance(listed, list) else ()
    for value in values:
        text = text_of(value)
        if text:
            yield text, value


def _token(text: str, value: Any, *, special: bool) -> dict[str, Any]:
    flags = value if isinstance(value, Mapping) else {}
    stated = {name: bool(flags[name]) for name in _FLAGS if name in flags}
    defaults = dict.fromkeys(_FLAGS, False) | {"normalized": not special}
    return {"content": text, **defaults, **stated, "special": special}


def _id(title: str, where: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if isinstance(value, (bool, float)) or not 0 <= number < HIGHEST:
        raise BadCheckpoint(f"{title}: {where} gives a token the id {value!r}, which is none.")
    return number


def _object(title: str, where: str, value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadCheckpoint(f"{title}: {where} is not an object.")
    return value
